//! What has changed the stock of books: what an audit compares sales and stock with.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use common::api::{FieldError, Ledger, LedgerMove};
use protocol::ids::{Index, ShardId};

use super::extract::{Admin, Args};
use super::fields::{Call, Fields};
use super::outcome::{NO_STORE, served_by};
use super::paging;
use super::problem::Problem;
use super::route::Route;
use crate::app::App;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::at("/ledger").read(ledger)]
}

/// A part of a shard's ledger.
struct Part {
    shard: ShardId,
    after: Index,
    limit: u32,
}

impl Call for Part {
    const KEYS: &'static [&'static str] = &["shard", "after", "page_size"];

    fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        let shard = fields.within("shard", 0..=u64::from(u32::MAX))?.unwrap_or(0);
        // Indexes are kept as signed integers.
        let after = fields.within("after", 0..=i64::MAX.unsigned_abs())?.unwrap_or(0);
        let shard = ShardId(u32::try_from(shard).unwrap_or(u32::MAX));
        Ok(Self { shard, after: Index(after), limit: paging::page_size(fields)? })
    }
}

async fn ledger(
    State(app): State<App>,
    _: Admin,
    Args(Part { shard, after, limit }): Args<Part>,
) -> Result<Response, Problem> {
    let shards = app.config().shards.count.get();
    if shard.0 >= shards {
        let problem = format!("must be below {shards}, the number of shards, found {shard}");
        return Err(FieldError::new("shard", problem).into());
    }
    let (page, node) = app.ledger(shard, after, limit).await?;
    let moves = page.moves.into_iter();
    let body = Ledger {
        shard: shard.0,
        moves: moves.map(|(index, change)| LedgerMove { index: index.0, change: change.into() }).collect(),
        upto: page.upto.0,
        last: page.last.0,
        begins: page.begins.0,
    };
    Ok((served_by(&node), NO_STORE, Json(body)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(pairs: &[(&str, &str)]) -> Result<Part, FieldError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Fields::of_url(pairs.collect())?.into_call()
    }

    #[test]
    fn a_part_has_edges() {
        let all = part(&[]).unwrap();
        assert_eq!((all.shard, all.after, all.limit), (ShardId(0), Index(0), 50));
        assert_eq!(part(&[("after", "9223372036854775807")]).unwrap().after, Index(i64::MAX.unsigned_abs()));
        for (name, value) in
            [("shard", "-1"), ("shard", "4294967296"), ("after", "9223372036854775808"), ("page_size", "0")]
        {
            assert_eq!(part(&[(name, value)]).err().unwrap().field, name, "{value}");
        }
    }
}

//! Writes and orders: to the shard's writer, or to an order node.

use std::time::Instant;

use common::clock;
use protocol::call::{CallId, OrderCall, OrderReply, Trace, WriteFailure};
use protocol::catalogue::{Order, OrderLine};
use protocol::command::{Action, Command, CommandKey, Outcome};
use protocol::entry::EncodedCommand;
use protocol::ids::{NodeId, OrderId, ShardId};

use crate::app::{App, Failure};
use crate::orders::{NoAnswer, buy_is_final};
use crate::shards::ShardState;
use crate::writers::PATIENCE_TIMEOUTS;

impl App {
    /// Has a shard's writer carry out an action.
    ///
    /// # Errors
    /// If it was not done, or it is not known whether.
    pub async fn write(
        &self,
        trace: Trace,
        key: CommandKey,
        action: Action,
    ) -> Result<(Outcome, NodeId), Failure> {
        let shard = self.shard_of(&key, &action);
        tracing::debug!(request_id = %trace.request_id, %shard, "write");
        let command = EncodedCommand::of(&Command { key, at: clock::now(), action });
        let trouble = || self.parts().shards.get(shard).and_then(ShardState::trouble);
        let named = |why: String| trouble().map_or(why, |what| format!("shard {shard} waits for {what}"));
        let failed = |failure| match failure {
            WriteFailure::NotDone(why) => WriteFailure::NotDone(named(why)),
            WriteFailure::Unknown(why) => WriteFailure::Unknown(named(why)),
            WriteFailure::BadRequest(why) => WriteFailure::BadRequest(why),
        };
        let outcome = self.parts().writers.submit(shard, command).await;
        Ok((outcome.map_err(|failure| Failure::Write(failed(failure)))?, self.id().clone()))
    }

    /// The shard whose write it is. All books of a load are of one shard.
    fn shard_of(&self, key: &CommandKey, action: &Action) -> ShardId {
        let count = self.config().shards.count.get();
        let book = match action {
            Action::Buy { lines, .. } => lines.first().map(|line| line.book),
            Action::AddStock { book, .. } | Action::SetPrice { book, .. } | Action::RemoveBook { book } => {
                Some(*book)
            }
            Action::PutBook(book) => book.id,
            Action::Load { books } => books.iter().find_map(|book| book.id),
        };
        match book {
            Some(book) => ShardId::of_book(book, count),
            None => ShardId::of_key(key.as_bytes(), count),
        }
    }

    /// Sells books.
    ///
    /// # Errors
    /// If it was not done, or it is not known whether.
    pub async fn buy(
        &self,
        trace: Trace,
        key: CommandKey,
        lines: Vec<OrderLine>,
    ) -> Result<(Outcome, NodeId), Failure> {
        let write = self.config().timeouts.write;
        // One writer's patience, and the time to find that an order node is gone and to ask another.
        let deadline = Instant::now() + write * (PATIENCE_TIMEOUTS + 2);
        let make = |call: CallId| OrderCall::Buy {
            call,
            run: self.parts().orders.run(),
            trace: trace.clone(),
            key: key.clone(),
            lines: lines.clone(),
        };
        let called = self.parts().orders.call(None, write * 2, deadline, make, buy_is_final).await;
        match called {
            Ok((OrderReply::Bought { result: Ok(outcome), .. }, node)) => Ok((outcome, node)),
            Ok((OrderReply::Bought { result: Err(failure), .. }, _)) => Err(Failure::Write(failure)),
            Ok((OrderReply::Order { .. } | OrderReply::Orders { .. }, node)) => {
                Err(Failure::Write(WriteFailure::Unknown(format!("{node} answered another question"))))
            }
            // Whether a node that never answered had begun is not known.
            Err(NoAnswer { sent: true, why }) => {
                Err(Failure::Write(WriteFailure::Unknown(self.with_what_is_missing(&lines, why))))
            }
            Err(NoAnswer { sent: false, why }) => {
                Err(Failure::Write(WriteFailure::NotDone(self.with_what_is_missing(&lines, why))))
            }
        }
    }

    /// Why an order had no answer. An order node that waits for a shard is silent, though it is the
    /// shard that is to blame: that one is named.
    fn with_what_is_missing(&self, lines: &[OrderLine], why: String) -> String {
        let shards = lines.iter().map(|line| ShardId::of_book(line.book, self.config().shards.count.get()));
        let states = shards.filter_map(|shard| self.parts().shards.get(shard));
        let mut missing = states.filter_map(|state| Some((state.id, state.trouble()?)));
        missing.next().map_or(why, |(shard, what)| format!("shard {shard} waits for {what}"))
    }

    /// An order.
    ///
    /// # Errors
    /// If no order node can tell.
    pub async fn order(&self, trace: Trace, order: OrderId) -> Result<(Option<Order>, NodeId), Failure> {
        let make = |call: CallId| OrderCall::Order { call, trace: trace.clone(), order };
        match self.ask_orders(None, make).await? {
            (OrderReply::Order { result, .. }, node) => Ok((result.map_err(unavailable)?, node)),
            (OrderReply::Bought { .. } | OrderReply::Orders { .. }, node) => {
                Err(unavailable(format!("{node} answered another question")))
            }
        }
    }

    /// Orders, newest first, and whether more follow; as one node has them, if one is named.
    ///
    /// # Errors
    /// If no order node can tell.
    pub async fn orders(
        &self,
        trace: Trace,
        of: Option<&NodeId>,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<((Vec<Order>, bool), NodeId), Failure> {
        let make = |call: CallId| OrderCall::Orders { call, trace: trace.clone(), before, limit };
        match self.ask_orders(of, make).await? {
            (OrderReply::Orders { result, .. }, node) => Ok((result.map_err(unavailable)?, node)),
            (OrderReply::Bought { .. } | OrderReply::Order { .. }, node) => {
                Err(unavailable(format!("{node} answered another question")))
            }
        }
    }

    async fn ask_orders(
        &self,
        only: Option<&NodeId>,
        make: impl Fn(CallId) -> OrderCall,
    ) -> Result<(OrderReply, NodeId), Failure> {
        let read = self.config().timeouts.read;
        let deadline = Instant::now() + read * 4;
        let is_final = |reply: &OrderReply| match reply {
            OrderReply::Order { result, .. } => result.is_ok(),
            OrderReply::Orders { result, .. } => result.is_ok(),
            OrderReply::Bought { .. } => true,
        };
        let called = self.parts().orders.call(only, read * 2, deadline, make, is_final).await;
        called.map_err(|no_answer| unavailable(no_answer.why))
    }
}

fn unavailable(why: String) -> Failure {
    Failure::Unavailable { detail: format!("orders can't be read: {why}") }
}

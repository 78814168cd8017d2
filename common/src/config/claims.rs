//! What each node takes for itself alone: its name and its addresses.
//!
//! Clashes are looked for once all nodes are known. The nodes of a default list claim as well, and since
//! they have no line, a clash with one of them is reported where the file can be changed.

use std::ops::Range;

use protocol::ids::NodeId;

use super::Address;
use super::reader::Mistakes;

/// Hosts that stand for all addresses of a machine.
const WILDCARDS: [&str; 2] = ["0.0.0.0", "[::]"];

/// All claims of a configuration.
#[derive(Default)]
pub(super) struct Claims {
    ids: Vec<Claim<NodeId>>,
    addresses: Vec<Claim<Listener>>,
}

struct Claim<T> {
    /// The key that claims, such as `catalog.listen`.
    key: String,
    /// Where; a default is nowhere.
    span: Option<Range<usize>>,
    what: T,
}

struct Listener {
    address: Address,
    /// The machine of its node, if that is named.
    machine: Option<String>,
}

impl Claims {
    /// A node of this kind has this name.
    pub(super) fn id(&mut self, kind: &str, id: &NodeId, span: Option<Range<usize>>) {
        self.ids.push(Claim { key: format!("{kind}.id"), span, what: id.clone() });
    }

    /// A node of this kind listens at this address.
    pub(super) fn address(
        &mut self,
        key: String,
        address: &Address,
        machine: Option<&str>,
        span: Option<Range<usize>>,
    ) {
        let what = Listener { address: address.clone(), machine: machine.map(str::to_owned) };
        self.addresses.push(Claim { key, span, what });
    }

    /// Notes each claim that another has made before.
    pub(super) fn check(self, mistakes: &mut Mistakes<'_>) {
        report(self.ids, |one, other| one == other, |id| format!("{:?}", id.as_str()), mistakes);
        report(
            self.addresses,
            Listener::clashes,
            |listener| format!("{:?}", listener.address.as_str()),
            mistakes,
        );
    }
}

impl Listener {
    /// Whether not both can listen. Port 0 clashes with nothing, for the system chooses.
    fn clashes(&self, other: &Self) -> bool {
        let port = self.address.port();
        if port == 0 || port != other.address.port() {
            return false;
        }
        let is_wildcard = |listener: &Self| WILDCARDS.contains(&listener.address.host());
        if is_wildcard(self) || is_wildcard(other) {
            self.machine == other.machine
        } else {
            plain(self.address.host()) == plain(other.address.host())
        }
    }
}

/// One spelling for hosts that are known to be the same.
fn plain(host: &str) -> String {
    let lower = host.to_ascii_lowercase();
    if lower == "localhost" { "127.0.0.1".to_owned() } else { lower }
}

fn report<T>(
    mut claims: Vec<Claim<T>>,
    clash: impl Fn(&T, &T) -> bool,
    show: impl Fn(&T) -> String,
    mistakes: &mut Mistakes<'_>,
) {
    // Defaults first, so that the later of two always has a place, unless both are defaults.
    claims.sort_by_key(|claim| claim.span.as_ref().map(|span| span.start));
    for (place, claim) in claims.iter().enumerate() {
        let Some(span) = &claim.span else { continue };
        let Some(earlier) = claims.iter().take(place).find(|earlier| clash(&earlier.what, &claim.what))
        else {
            continue;
        };
        let owner = match &earlier.span {
            Some(span) => format!("is taken by `{}` on line {}", earlier.key, mistakes.line(span)),
            None => format!("is taken by `{}` of a default node", earlier.key),
        };
        let found = show(&claim.what);
        let taken = show(&earlier.what);
        mistakes.at(span, format!("`{}` must be one of its own, found {found}: {taken} {owner}", claim.key));
    }
}

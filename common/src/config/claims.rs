//! What each node takes for itself alone: its name and its addresses.
//!
//! Clashes are looked for once all nodes are known. The nodes of a default list claim as well, and since
//! they have no line, a clash with one of them is reported where the file can be changed.

use std::collections::HashMap;
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
    pub(super) fn check(self, mistakes: &mut Mistakes) {
        let mut ids = HashMap::new();
        for claim in in_order(&self.ids) {
            let earlier = *ids.entry(&claim.what).or_insert(claim);
            report(claim, earlier, |id| id.as_str(), mistakes);
        }
        let mut taken = Taken::default();
        for claim in in_order(&self.addresses) {
            // Port 0 clashes with nothing, for the system chooses.
            if claim.what.address.port() != 0 {
                report(claim, taken.take(claim), |listener| listener.address.as_str(), mistakes);
            }
        }
    }
}

/// Defaults first, so that the later of two always has a place, unless both are defaults.
fn in_order<T>(claims: &[Claim<T>]) -> Vec<&Claim<T>> {
    let mut sorted: Vec<&Claim<T>> = claims.iter().collect();
    sorted.sort_by_key(|claim| place(claim));
    sorted
}

/// Who has a port first: of those that listen at a host, at all addresses of a machine, and at any of a machine's.
#[derive(Default)]
struct Taken<'c> {
    hosts: HashMap<(u16, String), &'c Claim<Listener>>,
    wildcards: HashMap<(u16, Option<&'c str>), &'c Claim<Listener>>,
    machines: HashMap<(u16, Option<&'c str>), &'c Claim<Listener>>,
}

impl<'c> Taken<'c> {
    /// Takes an address, and gives the first claim that can't listen beside this one: itself, if all others can.
    fn take(&mut self, claim: &'c Claim<Listener>) -> &'c Claim<Listener> {
        let Listener { address, machine } = &claim.what;
        let machine = (address.port(), machine.as_deref());
        let first_on_machine = *self.machines.entry(machine).or_insert(claim);
        if WILDCARDS.contains(&address.host()) {
            self.wildcards.entry(machine).or_insert(claim);
            return first_on_machine;
        }
        let at_host = *self.hosts.entry((address.port(), plain(address.host()))).or_insert(claim);
        let wildcard = self.wildcards.get(&machine).copied();
        wildcard.filter(|wildcard| place(wildcard) < place(at_host)).unwrap_or(at_host)
    }
}

fn place<T>(claim: &Claim<T>) -> Option<usize> {
    claim.span.as_ref().map(|span| span.start)
}

/// One spelling for hosts that are known to be the same.
fn plain(host: &str) -> String {
    let lower = host.to_ascii_lowercase();
    if lower == "localhost" { "127.0.0.1".to_owned() } else { lower }
}

fn report<T>(claim: &Claim<T>, earlier: &Claim<T>, show: impl Fn(&T) -> &str, mistakes: &mut Mistakes) {
    let Some(span) = &claim.span else { return };
    if std::ptr::eq(claim, earlier) {
        return;
    }
    let owner = match &earlier.span {
        Some(span) => format!("is taken by `{}` on line {}", earlier.key, mistakes.line(span)),
        None => format!("is taken by `{}` of a default node", earlier.key),
    };
    let (key, found, taken) = (&claim.key, show(&claim.what), show(&earlier.what));
    mistakes.at(span, format!("`{key}` must be one of its own, found {found:?}: {taken:?} {owner}"));
}

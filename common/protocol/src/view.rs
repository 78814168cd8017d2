//! A shard's view: who writes and who must have every acknowledged write.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Index, NodeId, ShardId, StoreId};
use crate::mutant;

/// Who is who in a shard, at an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// Of which shard.
    pub shard: ShardId,
    /// Its number: each view of a shard has another, higher than those before.
    pub epoch: Epoch,
    /// The front end that gives the shard's writes their order.
    pub writer: NodeId,
    /// The replicas that have every acknowledged write, and the only ones that may be read. In the
    /// order of the configuration, never empty.
    pub members: Vec<Member>,
    /// The last index known to be committed when the view was made. A member whose log is shorter has
    /// lost something and is refused.
    pub last_index: Index,
}

/// A member: a store at a node. The store counts: a file made anew under an old name is no member.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Where it lives.
    pub node: NodeId,
    /// Which file it is.
    pub store: StoreId,
}

impl View {
    /// Whether the store at the node is a member.
    #[must_use]
    pub fn has(&self, node: &NodeId, store: StoreId) -> bool {
        let is_it = |member: &Member| member.store == store || mutant!(HostsForStores);
        self.members.iter().any(|member| member.node == *node && is_it(member))
    }

    /// The member at a node, if there is one.
    #[must_use]
    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == *node)
    }
}

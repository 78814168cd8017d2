//! I2: the logs of members are prefixes of one another.

use protocol::view::View;

use crate::nodes::Node;

pub(crate) fn are_prefixes(nodes: &[Node], stored: Option<&View>) {
    let Some(view) = stored else { return };
    let members: Vec<&Node> = nodes.iter().filter(|node| node.is_member_of(view)).collect();
    for pair in members.windows(2) {
        let (one, other) = (&pair[0].disk, &pair[1].disk);
        let shared = one.last().0.min(other.last().0);
        let chains = (one.chain_at(shared), other.chain_at(shared));
        assert_eq!(chains.0, chains.1, "I2: the members' logs part at or before {shared}");
    }
}

//! How the view may change: one step at a time, and never to nobody.

use protocol::view::{Member, View};

/// Whether a view may replace another. `is_quiet`: nothing has gone wrong, so nobody may be dropped.
pub(crate) fn may_follow(old: Option<&View>, new: &View, is_quiet: bool) {
    assert!(!new.members.is_empty(), "a view without members");
    let Some(old) = old else { return };
    assert_eq!(new.epoch, old.epoch.next(), "a view raises the epoch by one");
    assert!(new.last_index >= old.last_index, "the last index known falls");
    let lacks = |view: &View, member: &Member| !view.members.contains(member);
    let dropped = old.members.iter().filter(|member| lacks(new, member)).count();
    let added = new.members.iter().filter(|member| lacks(old, member)).count();
    assert!(dropped == 0 || added == 0, "members come and go at once");
    assert!(!is_quiet || dropped == 0, "a member was dropped though nothing went wrong");
}

//! Whether the answer to a read may be shown to its caller.
//!
//! R1 A read is released only once the commit index known to the front end has reached its version, and
//! only if the view has not changed since it was sent; else it is asked again. A replica may show an
//! entry that is not committed yet, and nobody sees it before it is.

use crate::call::Version;
use crate::ids::{Epoch, Index};
use crate::mutant;

/// What is to be done with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It may be shown.
    Show,
    /// It is held back until the commit index has reached its version, or the view has changed.
    Hold,
    /// It is of another view than that of now: the read is sent again.
    AskAgain,
}

/// The rule: `asked_in` is the epoch that the read named, `view` that of the view to read by now, if
/// there is one, and `commit` what is known to be committed.
#[must_use]
pub fn release(version: Version, asked_in: Epoch, view: Option<Epoch>, commit: Index) -> Release {
    if view != Some(asked_in) || version.epoch > asked_in {
        Release::AskAgain
    } else if version.index > commit && !mutant!(ReleaseBeforeCommit) {
        Release::Hold
    } else {
        Release::Show
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_committed_in_the_view_of_its_question_is_shown() {
        let at = |index, epoch| Version { index: Index(index), epoch: Epoch(epoch) };
        let cases = [
            (at(5, 2), Some(2), 5, Release::Show),
            (at(5, 1), Some(2), 9, Release::Show),
            (at(5, 2), Some(2), 4, Release::Hold),
            (at(5, 2), Some(3), 5, Release::AskAgain),
            (at(5, 2), Some(3), 4, Release::AskAgain),
            (at(5, 2), None, 5, Release::AskAgain),
            (at(5, 3), Some(2), 5, Release::AskAgain),
        ];
        for (version, view, commit, expected) in cases {
            let found = release(version, Epoch(2), view.map(Epoch), Index(commit));
            assert_eq!(found, expected, "{version:?} {view:?} {commit}");
        }
    }
}

//! How long work shows itself: on a terminal only, and gone when it is done.

use indicatif::ProgressStyle;

/// A template that is known to be right; if it were not, the plain bar would do.
pub(super) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

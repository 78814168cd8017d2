//! What a process shows when it opens a link, and wants to be shown by whoever opens one to it.

use std::num::NonZeroU32;

use crate::config::Config;
use crate::secret::{Secret, SecretError, cluster_secret};

/// The secret of the cluster, and what two processes must have alike to understand each other.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(super) secret: Secret,
    /// With another count a book is another shard's.
    pub(super) shards: NonZeroU32,
}

impl Credentials {
    /// Those of a configuration.
    ///
    /// # Errors
    /// If the cluster's secret can't be had.
    pub fn of(config: &Config) -> Result<Self, SecretError> {
        Ok(Self { secret: cluster_secret(&config.cluster.data_dir)?, shards: config.shards.count })
    }
}

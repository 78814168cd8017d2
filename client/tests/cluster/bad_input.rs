//! Bad input, all of it, against the store as it is shipped.

use crate::edges::every_edge;
use crate::harness::{Cluster, Setup};

const SHIPPED: &str = include_str!("../../../catalogue.csv");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_and_changes_nothing() {
    let cluster = Cluster::start(Setup { catalogue: SHIPPED.to_owned(), ..Setup::default() }).await;
    let before = cluster.level().await;
    every_edge(&cluster.url(), &cluster.token()).await;
    let after = cluster.level().await;
    for node in after.nodes {
        assert!(before.nodes.iter().any(|known| known.pid == node.pid), "{} was restarted", node.id);
        let log = cluster.log(&node.id);
        assert!(!log.contains("panicked") && !log.contains("status=500"), "see the log of {}", node.id);
    }
}

//! What one order node has in its book, asked of that node itself.

use common::api::Order;
use common::config::Config;
use common::link::{self, Credentials, Opened};
use common::runfile;
use protocol::call::{CallId, OrderCall, OrderReply, Trace};
use protocol::ids::{NodeId, OrderId};
use tokio::task::JoinSet;

/// Rows a page.
const PAGE: u32 = 500;

/// All orders of a node, newest first. It catches up with the shards before it answers.
pub(crate) async fn orders_of(config: &Config, node: &NodeId) -> Vec<Order> {
    let configured = &config.order(node).unwrap().listen;
    let address = runfile::resolve(config, node, "listen", configured);
    let credentials = Credentials::of(config).unwrap();
    let me = NodeId::from("tester");
    let connected =
        link::connect(address.as_str(), &credentials, &me, link::HANDSHAKE_TIMEOUT).await.unwrap();
    let Opened { sender, mut receiver, flush } = link::open::<OrderCall, OrderReply>(connected);
    let mut flushing = JoinSet::new();
    flushing.spawn(flush.run());
    let mut all = Vec::new();
    let mut before: Option<OrderId> = None;
    loop {
        let call = OrderCall::Orders { call: CallId(0), trace: Trace::default(), before, limit: PAGE };
        sender.send(&call).unwrap();
        let OrderReply::Orders { result, .. } = receiver.recv().await.unwrap() else {
            panic!("{node} answers something else");
        };
        let (page, more) = result.unwrap();
        before = page.last().map(|order| order.id);
        all.extend(page.into_iter().map(Order::from));
        if !more {
            return all;
        }
    }
}

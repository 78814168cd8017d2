//! Who may come in, and what nobody gets to see.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Cluster, Http, Setup, book};

/// All listeners that are for processes of the cluster alone.
const INTERNAL: [(&str, &str); 6] = [
    ("frontend-1", "internal"),
    ("frontend-1", "heartbeat"),
    ("catalog-1", "listen"),
    ("catalog-2", "listen"),
    ("order-1", "listen"),
    ("order-2", "listen"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn internal_listeners_refuse_whoever_has_not_the_cluster_secret() {
    let cluster = Cluster::start(Setup::default()).await;
    let upgrade = [("connection", "upgrade"), ("upgrade", "bookends/1"), ("x-node", "catalog-1")];
    let admin = format!("Bearer {}", cluster.token());
    for (node, listener) in INTERNAL {
        let http = Http::new(format!("http://{}", cluster.address(node, listener)));
        let wrong = ["", "Bearer ", "Bearer 0123456789abcdef0123456789abcdef", &admin];
        for shown in wrong {
            let headers = [&upgrade[..], &[("authorization", shown)]].concat();
            let answer = http.get_with("/link", &headers).await;
            assert_eq!(answer.status, 401, "{node} {listener} {shown:?}: {answer:?}");
            assert_eq!(answer.json::<Value>()["type"], "/problems/unauthorized");
        }
        for path in ["/", "/link", "/status", "/log", "/snapshot"] {
            assert_eq!(http.get(path).await.status, 401, "{node} {listener} {path}");
        }
        let answer = http.post("/buy", &[], &json!({"id": 1})).await;
        assert_eq!(answer.status, 401, "{node} {listener}: {answer:?}");
        // Whether it lives may be asked by anybody.
        assert_eq!(http.get("/livez").await.status, 200, "{node} {listener}");
    }
    cluster.level().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_in_no_log_and_no_list_of_processes() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let client = cluster.client();
    client.set_cost(book(1), 5).await.unwrap();
    client.buy(book(1), 1).await.unwrap();
    cluster.kill("catalog-1");
    cluster.start_node("catalog-1").await;
    let status = cluster.level().await;
    let http = cluster.http();
    let wrong = [("authorization", "Bearer not-the-right-token-0123456789")];
    assert_eq!(http.get_with("/orders", &wrong).await.status, 401);
    assert_eq!(http.send(Method::GET, "/orders?token=x", &[], None).await.unwrap().status, 401);

    let mut secrets = vec!["not-the-right-token-0123456789".to_owned()];
    for name in ["admin.token", "cluster.secret"] {
        let path = cluster.path("data").join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        secrets.push(fs::read_to_string(path).unwrap().trim().to_owned());
    }
    let shows = |text: &[u8]| {
        secrets.iter().any(|secret| text.windows(secret.len()).any(|at| at == secret.as_bytes()))
    };
    assert!(shows(format!("it is {}!", secrets[2]).as_bytes()), "the search finds what is there");
    assert_eq!(status.nodes.len(), 5);
    for node in &status.nodes {
        let log = cluster.log(&node.id);
        assert!(!log.is_empty() && !shows(log.as_bytes()), "the log of {} shows a secret", node.id);
        let line = fs::read(format!("/proc/{}/cmdline", node.pid.unwrap())).unwrap();
        assert!(!line.is_empty() && !shows(&line), "the command line of {} shows a secret", node.id);
    }
    for path in ["/status", "/metrics", "/openapi.json"] {
        assert!(!shows(http.get(path).await.text.as_bytes()), "{path} shows a secret");
    }
}

//! A bare hyper server that gives one answer to whatever is asked: the most that HTTP on hyper can do.

use std::convert::Infallible;
use std::error::Error;
use std::path::PathBuf;

use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mimalloc::MiMalloc;
use peers::Answer;

/// The front end's: what differs is the server.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "the barest server there is; its tasks end with its process")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: peer-hyper ANSWER")?;
    let answer = Answer::read(&path)?;
    let listener = peers::listen().await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        let service = service_fn(move |_| {
            let mut response = Response::new(Full::new(answer.body.clone()));
            response.headers_mut().clone_from(&answer.headers);
            async { Ok::<_, Infallible>(response) }
        });
        // A client that goes away is no failure of the server.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

//! Serves an API in memory (or in the directory given third): `serve ADDRESS TOKEN [DIR]`. For tests by hand.

use druse_apiserver::ApiServer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let address = args.first().map_or("127.0.0.1:6443", String::as_str).parse()?;
    let mut builder =
        ApiServer::builder().bare(args.get(4).is_some()).token(args.get(1).map_or("admin", String::as_str));
    if let Some(dir) = args.get(2) {
        builder = builder.data_dir(dir);
    }
    let server = builder.build().await?;
    let listener = server.listen(address).await?;
    if let Some(path) = args.get(3) {
        std::fs::write(path, server.kubeconfig(listener.local_addr()?))?;
    }
    tokio::select! {
        r = server.serve(listener) => r?,
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

//! What the environment says about the network: proxies, and registries' credentials that other tools have stored.

use std::path::PathBuf;

use druse_source::NetOptions;

/// The network's options: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` (lower case wins, as with curl), and the
/// `auths` of Helm's and Docker's configuration files. Credential helpers are not run.
pub fn options() -> NetOptions {
    NetOptions {
        http_proxy: proxy("http"),
        https_proxy: proxy("https"),
        no_proxy: variable("no_proxy"),
        registry_configs: configs().into_iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect(),
        ..NetOptions::default()
    }
}

fn variable(name: &str) -> Option<String> {
    [name.to_string(), name.to_uppercase()].into_iter().find_map(|n| std::env::var(n).ok()).filter(|v| !v.is_empty())
}

fn proxy(scheme: &str) -> Option<String> {
    let proxy = variable(&format!("{scheme}_proxy")).or_else(|| variable("all_proxy"))?;
    // Written without a scheme, a proxy is spoken to over HTTP.
    Some(if proxy.contains("://") { proxy } else { format!("http://{proxy}") })
}

/// Where registries' credentials are kept, those of Helm first.
fn configs() -> Vec<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = env("HOME");
    let in_home = |path: &str| home.as_ref().map(|h| h.join(path));
    let helm = env("HELM_REGISTRY_CONFIG")
        .or_else(|| env("HELM_CONFIG_HOME").map(|d| d.join("registry/config.json")))
        .or_else(|| env("XDG_CONFIG_HOME").map(|d| d.join("helm/registry/config.json")))
        .or_else(|| in_home(".config/helm/registry/config.json"));
    let docker = env("DOCKER_CONFIG").map(|d| d.join("config.json")).or_else(|| in_home(".docker/config.json"));
    helm.into_iter().chain(docker).collect()
}

//! `druse template`: renders one chart, with the flags and the output of `helm template`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use druse_helm::output::{Show, template_text};
use druse_helm::render::{name_from_template, validate_release_name};
use druse_helm::{
    Capabilities, Chart, HelmError, KubeVersion, Release, RenderOptions, SeededHost, Values, render, with_stack,
};

use crate::error::CliError;
use crate::globals::Globals;
use crate::say::print;

/// Render one chart, as `helm template` does
///
/// Same flags, same output. What a cluster would answer (lookups, API versions) is Helm's own default; random and clock
/// functions give the same result every time.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The release's name (release-name when left out) and the chart: a folder or a .tgz
    #[arg(value_name = "[NAME] CHART", required = true, num_args = 1..)]
    pub name_and_chart: Vec<String>,
    /// Values from a YAML file, `-` for standard input (repeatable, later ones win)
    #[arg(short = 'f', long = "values", value_name = "FILE", value_delimiter = ',')]
    pub values: Vec<String>,
    /// Set values: a.b=1,c[0]=x,d={x,y} (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Set values that stay text
    #[arg(long, value_name = "KEY=TEXT")]
    pub set_string: Vec<String>,
    /// Set values to JSON
    #[arg(long, value_name = "KEY=JSON")]
    pub set_json: Vec<String>,
    /// Set values to the contents of files
    #[arg(long, value_name = "KEY=PATH")]
    pub set_file: Vec<String>,
    /// Set one value to text taken as it is
    #[arg(long, value_name = "KEY=TEXT")]
    pub set_literal: Vec<String>,
    /// The release's namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// Print the files of crds/ too
    #[arg(long)]
    pub include_crds: bool,
    /// No CRDs: this is the default of printing, the flag is accepted as Helm accepts it
    #[arg(long, hide = true)]
    pub skip_crds: bool,
    /// Leave out tests
    #[arg(long)]
    pub skip_tests: bool,
    /// Leave out hooks
    #[arg(long)]
    pub no_hooks: bool,
    /// Print only these templates (patterns, relative to the chart; repeatable)
    #[arg(short, long, value_name = "TEMPLATE")]
    pub show_only: Vec<String>,
    /// Render as an upgrade: .Release.IsUpgrade instead of .Release.IsInstall
    #[arg(long)]
    pub is_upgrade: bool,
    /// More API versions for .Capabilities (comma-separated, repeatable)
    #[arg(short, long, value_name = "VERSION", value_delimiter = ',')]
    pub api_versions: Vec<String>,
    /// The Kubernetes version for .Capabilities
    #[arg(long, value_name = "VERSION")]
    pub kube_version: Option<String>,
    /// Do not check values against values.schema.json
    #[arg(long)]
    pub skip_schema_validation: bool,
    /// A template for the release's name
    #[arg(long, value_name = "TEMPLATE")]
    pub name_template: Option<String>,
    /// Make up a name from the chart's and the time
    #[arg(short, long)]
    pub generate_name: bool,
    /// Write each template to a file below this folder instead of printing it
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// With --output-dir: in a folder named after the release
    #[arg(long)]
    pub release_name: bool,
    /// On output that is not YAML, print it anyway
    #[arg(long)]
    pub debug: bool,
    /// Refused: there is no cluster here to check against
    #[arg(long, hide = true)]
    pub validate: bool,
    /// Only `client` is possible here
    #[arg(long, hide = true, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    pub dry_run: Option<String>,
    /// Refused when a dependency is missing: charts are not fetched here
    #[arg(long, hide = true)]
    pub dependency_update: bool,
    /// Refused: post-renderers are plugins of Helm
    #[arg(long, hide = true, value_name = "PLUGIN")]
    pub post_renderer: Option<String>,
    /// Refused: the chart is a folder or a file
    #[arg(long, hide = true, value_name = "URL")]
    pub repo: Option<String>,
    /// Refused: output would depend on the network
    #[arg(long, hide = true)]
    pub enable_dns: bool,
    /// Refused: provenance files are not read
    #[arg(long, hide = true)]
    pub verify: bool,
    #[command(flatten)]
    pub unused: Unused,
}

/// Flags of `helm template` that cannot change what it prints for a chart at hand.
#[derive(clap::Args, Clone, Debug)]
#[allow(dead_code, clippy::struct_excessive_bools)] // accepted, never looked at
pub struct Unused {
    #[arg(long, hide = true)]
    atomic: bool,
    #[arg(long, hide = true)]
    ca_file: Option<String>,
    #[arg(long, hide = true)]
    cert_file: Option<String>,
    #[arg(long, hide = true)]
    create_namespace: bool,
    #[arg(long, hide = true)]
    description: Option<String>,
    #[arg(long, hide = true)]
    devel: bool,
    #[arg(long, hide = true)]
    disable_openapi_validation: bool,
    #[arg(long, hide = true)]
    force: bool,
    #[arg(long, hide = true)]
    force_conflicts: bool,
    #[arg(long, hide = true)]
    force_replace: bool,
    #[arg(long, hide = true)]
    hide_notes: bool,
    #[arg(long, hide = true)]
    insecure_skip_tls_verify: bool,
    #[arg(long, hide = true)]
    key_file: Option<String>,
    #[arg(long, hide = true)]
    keyring: Option<String>,
    #[arg(short, long, hide = true)]
    labels: Vec<String>,
    #[arg(long, hide = true)]
    pass_credentials: bool,
    #[arg(long, hide = true)]
    password: Option<String>,
    #[arg(long, hide = true)]
    plain_http: bool,
    #[arg(long, hide = true)]
    post_renderer_args: Vec<String>,
    #[arg(long, hide = true)]
    render_subchart_notes: bool,
    #[arg(long, hide = true)]
    replace: bool,
    #[arg(long, hide = true)]
    rollback_on_failure: bool,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    server_side: Option<bool>,
    #[arg(long, hide = true)]
    take_ownership: bool,
    #[arg(long, hide = true)]
    timeout: Option<String>,
    #[arg(long, hide = true)]
    username: Option<String>,
    #[arg(long = "version", hide = true)]
    chart_version: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "watcher")]
    wait: Option<String>,
    #[arg(long, hide = true)]
    wait_for_jobs: bool,
    #[arg(long, hide = true)]
    kube_context: Option<String>,
    #[arg(long, hide = true)]
    kubeconfig: Option<String>,
}

impl From<HelmError> for CliError {
    fn from(e: HelmError) -> Self {
        let message = e.to_string();
        let error = Self::new(&message);
        match &e {
            HelmError::Schema(_) if !message.contains("--skip-schema-validation") => {
                error.help("change the values, or pass --skip-schema-validation")
            }
            HelmError::Yaml { .. } => error.help("use --debug to print the invalid YAML"),
            HelmError::KubeVersion { .. } => error.help("choose another version with --kube-version"),
            _ => error,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, _globals: &Globals) -> Result<ExitCode, CliError> {
    // All on the one thread that templates need anyway.
    with_stack(|| {
        reserve();
        template(args)
    })
}

/// Takes the memory a render uses from the system at once and not page by page, which costs more than rendering a small
/// chart. Nothing of it is touched, so nothing of it counts until it is used: the first allocation makes the system's
/// allocator keep what is freed, the second is what it keeps.
fn reserve() {
    for megabytes in [24, 16] {
        drop(std::hint::black_box(Vec::<u8>::with_capacity(megabytes << 20)));
    }
}

fn template(args: &Args) -> Result<ExitCode, CliError> {
    if args.validate || args.dry_run.as_deref().is_some_and(|d| d != "client" && d != "unset") {
        return Err(CliError::new(
            "--validate and --dry-run=server check against a cluster, which this command never talks to",
        )
        .help("drop the flag; `druse check` checks rendered objects against the published schemas"));
    }
    for (given, message, help) in [
        (
            args.post_renderer.is_some(),
            "--post-renderer is not supported: post-renderers are plugins of Helm",
            "pipe the output through the program instead",
        ),
        (
            args.repo.is_some(),
            "--repo is not supported: charts are rendered from a folder or a .tgz",
            "fetch the chart first, or let `druse mirror` fetch what a tree needs",
        ),
        (
            args.enable_dns,
            "--enable-dns is not supported: output would depend on the network",
            "without it getHostByName gives an empty text, as in Helm",
        ),
        (args.verify, "--verify is not supported: provenance files are not read", "verify the chart when you fetch it"),
    ] {
        if given {
            return Err(CliError::new(message).help(help));
        }
    }
    let kube_version = args.kube_version.as_deref().map(KubeVersion::parse).transpose()?;
    let (name, path) = name_and_chart(args)?;
    let values = values(args)?;
    let path = Path::new(&path);
    if !path.exists() {
        return Err(CliError::new(format!("path {:?} not found", path.display().to_string()))
            .help("give a chart's folder or .tgz; charts are fetched by name with `druse mirror`"));
    }
    let chart = Arc::new(Chart::from_path(path)?);
    chart.check_installable().map_err(|e| match e {
        HelmError::Dependencies(_) if args.dependency_update => {
            CliError::new(e).help("--dependency-update is not supported: dependencies are not fetched here")
        }
        e => e.into(),
    })?;
    if chart.metadata.deprecated {
        tracing::warn!("this chart is deprecated");
    }
    validate_release_name(&name)?;
    let release = Release { is_upgrade: args.is_upgrade, ..Release::install(&name, &args.namespace) };
    let mut capabilities = Capabilities::default().with_api_versions(&args.api_versions);
    if let Some(v) = kube_version {
        capabilities.kube_version = v;
    }
    let host = SeededHost::new(&name);
    let options = RenderOptions { skip_schema_validation: args.skip_schema_validation, ..RenderOptions::default() };
    let rendered = match render(&chart, &values, &release, &capabilities, &host, &options) {
        Ok(rendered) => rendered,
        Err(e) => {
            if let (true, HelmError::Yaml { rendered, .. }) = (args.debug, &e) {
                print(&format!("{}\n", rendered.trim()))?;
            }
            return Err(e.into());
        }
    };
    // The process ends soon: there is no point in taking apart what the chart was parsed into.
    std::mem::forget(chart);
    for warning in &rendered.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(dir) = &args.output_dir {
        write_files(args, &rendered, dir, &name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let show = Show {
        include_crds: args.include_crds,
        skip_tests: args.skip_tests,
        no_hooks: args.no_hooks,
        only: args.show_only.clone(),
    };
    print(&template_text(&rendered, &show)?)?;
    Ok(ExitCode::SUCCESS)
}

fn name_and_chart(args: &Args) -> Result<(String, String), CliError> {
    match args.name_and_chart.as_slice() {
        [name, chart] => {
            if args.generate_name {
                return Err(CliError::new("cannot set --generate-name and also specify a name"));
            }
            if args.name_template.is_some() {
                return Err(CliError::new("cannot set --name-template and also specify a name"));
            }
            Ok((name.clone(), chart.clone()))
        }
        [chart] => {
            let name = match &args.name_template {
                Some(t) => name_from_template(t, &SeededHost::new("name-template"))?,
                None => "release-name".to_owned(),
            };
            Ok((name, chart.clone()))
        }
        [_, _, rest @ ..] => {
            Err(CliError::new(format!("expected at most two arguments, unexpected arguments: {}", rest.join(", "))))
        }
        [] => Err(CliError::new("a chart is needed")),
    }
}

fn read(path: &str) -> Result<Vec<u8>, CliError> {
    let fail = |e: std::io::Error| CliError::new(format!("cannot read {path}: {e}"));
    if path.trim() == "-" {
        let mut data = Vec::new();
        std::io::stdin().lock().read_to_end(&mut data).map_err(fail)?;
        return Ok(data);
    }
    if path.contains("://") {
        return Err(
            CliError::new(format!("{path} is a URL, and values are not fetched here")).help("download it first")
        );
    }
    std::fs::read(path).map_err(fail)
}

fn values(args: &Args) -> Result<Values, CliError> {
    let mut values = Values::default();
    for path in &args.values {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        values.merge(Values::from_yaml(&text).map_err(|e| CliError::new(format!("failed to parse {path}: {e}")))?);
    }
    for text in &args.set_json {
        values.set_json(text)?;
    }
    for text in &args.set {
        values.set(text)?;
    }
    for text in &args.set_string {
        values.set_string(text)?;
    }
    for text in &args.set_file {
        values.set_file(text, |path| {
            read(path).map(|d| String::from_utf8_lossy(&d).into_owned()).map_err(|e| e.message)
        })?;
    }
    for text in &args.set_literal {
        values.set_literal(text)?;
    }
    Ok(values)
}

/// `--output-dir`: every document goes to the file of its template, which its first document begins anew. As in Helm: the
/// folder of `--release-name` is not for CRDs, and a hook is added to a file that is there, from an earlier run too.
fn write_files(args: &Args, rendered: &druse_helm::Rendered, dir: &Path, name: &str) -> Result<(), CliError> {
    let release_dir = if args.release_name { dir.join(name) } else { dir.to_owned() };
    let mut written = std::collections::HashSet::new();
    let mut write = |dir: &Path, path: &str, text: &str, hook: bool| -> Result<(), CliError> {
        let target = dir.join(path);
        let fail = |e: std::io::Error| CliError::new(format!("cannot write {}: {e}", target.display()));
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(fail)?;
        }
        let more = !written.insert(path.to_owned()) || hook && target.exists();
        let mut options = std::fs::OpenOptions::new();
        let options = if more { options.append(true) } else { options.write(true).create(true).truncate(true) };
        let mut file = options.open(&target).map_err(fail)?;
        file.write_all(format!("---\n# Source: {path}\n{text}\n").as_bytes()).map_err(fail)?;
        print(&format!("wrote {}\n", target.display()))
    };
    for c in rendered.crds.iter().filter(|_| args.include_crds) {
        write(dir, &c.path, &c.text, false)?;
    }
    for m in &rendered.manifests {
        write(&release_dir, &m.template, &m.text, false)?;
    }
    for h in rendered.hooks.iter().filter(|h| !(args.no_hooks || args.skip_tests && h.is_test())) {
        write(&release_dir, &h.manifest.template, &h.manifest.text, true)?;
    }
    // What Helm prints of the manifest, which holds nothing then.
    print("\n")
}

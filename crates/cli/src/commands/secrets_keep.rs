//! `druse secrets list`, `put`, `rotate` and `diff`: for the person who keeps the values.
//!
//! Values come from standard input, a prompt, a file that is not committed, or chance; never from arguments, which every
//! process of the machine can read. None is ever printed.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use druse_aws::sealed::Json;
use druse_plan::TreeInput;
use druse_secrets::class::Kind;
use druse_secrets::keep::{
    Alphabet, Found, Item, Keeper, PutOptions, Reader, State, Stored, Written, items, random, state, unreadable,
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::cloud_place::{client, credentials, region};
use crate::error::CliError;
use crate::globals::Globals;
use crate::planning::TreeArgs;
use crate::threads::few;
use crate::values_file;

/// The largest value any store takes, with a newline after it.
const MOST: u64 = 65536 + 2;

/// The tree, and where its values are kept.
#[derive(clap::Args, Clone, Debug)]
pub struct Place {
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The region of the stores [default: the Terraform's, else AWS_REGION]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// What ServiceAccount annotations start with
    #[arg(long, value_name = "PREFIX", default_value = "eks.amazonaws.com", hide = true)]
    pub annotation_prefix: String,
}

/// How lists are printed.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Form {
    /// A table
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Show every parameter and secret that the tree declares or reads, who reads it, and whether it has a value
///
/// Values are not read. Without AWS credentials only the tree's side is shown.
#[derive(clap::Args, Clone, Debug)]
pub struct List {
    #[command(flatten)]
    pub place: Place,
    /// The output's form
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORM")]
    pub output: Form,
}

/// Set the value of a parameter or secret, read from standard input or a prompt
///
/// A value that is already there makes no new version. One newline at the end of standard input is taken off.
#[derive(clap::Args, Clone, Debug)]
pub struct Put {
    /// Its name, as the tree writes it
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub place: Place,
    /// The type of a parameter [default: as declared, else as it is, else SecureString]
    #[arg(long = "type", value_name = "TYPE", value_parser = ["SecureString", "String", "StringList"])]
    pub parameter_type: Option<String>,
    /// The KMS key that encrypts it [default: as declared, else the account's own]
    #[arg(long, value_name = "KEY")]
    pub key_id: Option<String>,
    /// Keep the newline at the end of standard input
    #[arg(long)]
    pub keep_newline: bool,
    /// Set a parameter that the tree neither declares nor reads
    #[arg(long)]
    pub undeclared: bool,
}

/// Replace a value by a new one, made by chance or read from standard input, and say who must notice
///
/// The version before is labelled `previous` (Secrets Manager does so by itself), so that it can be gone back to.
#[derive(clap::Args, Clone, Debug)]
pub struct Rotate {
    /// Its name, as the tree writes it
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub place: Place,
    /// How many letters the new value has
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(8..=4096))]
    pub length: u16,
    /// What the new value is made of
    #[arg(long, value_enum, default_value = "alphanumeric", value_name = "LETTERS")]
    pub alphabet: Letters,
    /// Replace only this field of a value that is a JSON object
    #[arg(long, value_name = "FIELD")]
    pub field: Option<String>,
    /// Read the new value from standard input or a prompt instead
    #[arg(long)]
    pub stdin: bool,
}

/// What a made value is made of.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Letters {
    /// Letters and digits
    Alphanumeric,
    /// 0 to f
    Hex,
    /// Letters, digits and punctuation
    Symbols,
}

/// Compare the tree with the stores: what has no value, still has Terraform's placeholder, or is known to nobody
///
/// With --values also which values are not those of a file. No value is shown.
#[derive(clap::Args, Clone, Debug)]
pub struct Diff {
    #[command(flatten)]
    pub place: Place,
    /// Compare with the values of this file too: YAML with maps `parameters` and `secrets`; never to be committed
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
    /// Exit with 1 when there are differences
    #[arg(long)]
    pub exit_code: bool,
    /// The output's form
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORM")]
    pub output: Form,
}

/// What the tree needs.
struct Needs {
    tree: TreeInput,
    items: Vec<Item>,
    region: Option<String>,
}

impl Needs {
    fn of(place: &Place, globals: &Globals) -> Result<Self, CliError> {
        let (plan, tree) = place.tree.plan_and_tree(globals, druse_plan::SecretValues::NotNeeded)?;
        let declared = crate::secrets_path::terraform(&plan, &tree, &place.annotation_prefix);
        let input = crate::secrets_path::input(&plan, &tree, &declared, &place.annotation_prefix);
        for text in unreadable(&input) {
            crate::say::say!("{} {text}", globals.paint_stderr().yellow("warning:"));
        }
        let region = place.region.clone().or_else(|| declared.regions.first().cloned()).or_else(region);
        let items = items(&input);
        Ok(Self { tree, items, region })
    }

    fn keeper(&self) -> Result<Keeper, CliError> {
        let region = self.region.as_deref().ok_or_else(|| {
            CliError::new("the region of the stores is not known").help("give --region, or set AWS_REGION")
        })?;
        Ok(Keeper::new(client(region)?, credentials()?))
    }

    fn item(&self, name: &str) -> Option<&Item> {
        self.items.iter().find(|i| i.name == name)
    }

    fn is_declared(&self, kind: Kind) -> bool {
        self.items.iter().any(|i| i.kind == kind && i.declared.is_some())
    }

    fn nearest(&self, name: &str) -> String {
        let last = |n: &str| n.rsplit('/').next().unwrap_or(n).to_string();
        let like = self.items.iter().map(|i| i.name.as_str()).filter(|n| last(n) == last(name) || n.contains(name));
        match like.take(3).collect::<Vec<_>>().as_slice() {
            [] => "`druse secrets list` shows what the tree knows; --undeclared sets it all the same".to_string(),
            some => format!("do you mean {}? --undeclared sets it all the same", some.join(" or ")),
        }
    }
}

/// An item with how it stands.
struct Standing {
    item: Item,
    stored: Option<Stored>,
    state: State,
}

fn standings(needs: &Needs, found: Option<&Found>) -> Vec<Standing> {
    let stand = |item: &Item| {
        let stored = found.and_then(|f| f.get(&(item.kind == Kind::Secret, item.name.clone()))).cloned();
        let state = match found {
            None => State::Unknown,
            Some(_) => state(item, stored.as_ref(), needs.is_declared(item.kind)),
        };
        Standing { item: item.clone(), stored, state }
    };
    needs.items.iter().map(stand).collect()
}

/// Runs `list`.
pub fn list(args: &List, globals: &Globals) -> Result<ExitCode, CliError> {
    let needs = Needs::of(&args.place, globals)?;
    let found = match needs.keeper() {
        Ok(keeper) => Some(few()?.block_on(keeper.stored(&needs.items)).map_err(|e| wrong(&e))?),
        Err(e) => {
            crate::say::say!("{} {}: only the tree's side is shown", globals.paint_stderr().yellow("note:"), e.message);
            None
        }
    };
    print(&standings(&needs, found.as_ref()), args.output, globals)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `put`.
pub fn put(args: &Put, globals: &Globals) -> Result<ExitCode, CliError> {
    let needs = Needs::of(&args.place, globals)?;
    let unknown;
    let item = match needs.item(&args.name) {
        Some(item) => item,
        None if args.undeclared => {
            unknown = Item::new(Kind::Parameter, &args.name);
            &unknown
        }
        None => {
            let text = format!("the tree neither declares nor reads {}", args.name);
            return Err(CliError::new(text).help(needs.nearest(&args.name)));
        }
    };
    let keeper = needs.keeper()?;
    let value = given(&args.name, args.keep_newline)?;
    let options = PutOptions { parameter_type: args.parameter_type.clone(), key_id: args.key_id.clone() };
    let written = few()?.block_on(keeper.put(item, &value, &options)).map_err(|e| wrong(&e))?;
    crate::say::print(&outcome(item, &written, needs.region.as_deref()))?;
    if !written.unchanged {
        consequences(&item.readers, globals);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `rotate`.
pub fn rotate(args: &Rotate, globals: &Globals) -> Result<ExitCode, CliError> {
    let needs = Needs::of(&args.place, globals)?;
    let item = needs.item(&args.name).ok_or_else(|| {
        CliError::new(format!("the tree neither declares nor reads {}", args.name))
            .help("`druse secrets list` shows what it does")
    })?;
    let keeper = needs.keeper()?;
    let alphabet = match args.alphabet {
        Letters::Alphanumeric => Alphabet::Alphanumeric,
        Letters::Hex => Alphabet::Hex,
        Letters::Symbols => Alphabet::Symbols,
    };
    let new = match args.stdin {
        true => given(&args.name, false)?,
        false => random(alphabet, usize::from(args.length)).map_err(CliError::new)?,
    };
    let written = few()?.block_on(async {
        let now = keeper.values(item.kind, &[&item.name]).await.map_err(|e| wrong(&e))?;
        let value = replaced(&item.name, now.get(&item.name).map(|v| v.as_str()), args.field.as_deref(), new)?;
        let written = keeper.put(item, &value, &PutOptions::default()).await.map_err(|e| wrong(&e))?;
        if let (Kind::Parameter, Some(before), false) = (item.kind, &written.before, written.unchanged)
            && let Err(e) = keeper.label(&item.name, before, "previous").await
        {
            let paint = globals.paint_stderr();
            crate::say::say!("{} version {before} could not be labelled `previous`: {e}", paint.yellow("warning:"));
        }
        Ok::<_, CliError>(written)
    })?;
    crate::say::print(&outcome(item, &written, needs.region.as_deref()))?;
    consequences(&item.readers, globals);
    Ok(ExitCode::SUCCESS)
}

/// The value with what is new in it: as a whole, or in one field of a JSON object.
fn replaced(
    name: &str,
    now: Option<&str>,
    field: Option<&str>,
    new: Zeroizing<String>,
) -> Result<Zeroizing<String>, CliError> {
    let object = now.and_then(|v| match Json::parse(v.as_bytes()) {
        Ok(Json::Map(entries)) => Some(entries),
        _ => None,
    });
    let names = |entries: &[(Zeroizing<String>, Json)]| -> String {
        entries.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>().join(", ")
    };
    match (field, object) {
        (None, None) => Ok(new),
        (None, Some(entries)) => {
            let text = format!("{name} is a JSON object with {}: as a whole it would be lost", names(&entries));
            Err(CliError::new(text).help("name one with --field, or set it as a whole with `druse secrets put`"))
        }
        (Some(_), None) => Err(CliError::new(format!("{name} is no JSON object, so that it has no fields"))),
        (Some(field), Some(mut entries)) => {
            let has = names(&entries);
            let at = entries.iter_mut().rev().find(|(k, _)| k.as_str() == field);
            let (_, at) = at.ok_or_else(|| CliError::new(format!("{name} has no field {field:?}; it has {has}")))?;
            *at = Json::Text(new);
            Ok(Json::Map(entries).to_json())
        }
    }
}

/// Runs `diff`.
pub fn diff(args: &Diff, globals: &Globals) -> Result<ExitCode, CliError> {
    let needs = Needs::of(&args.place, globals)?;
    let keeper = needs.keeper()?;
    let wanted = match &args.values {
        Some(file) => Some(values_file::read(file, &needs.tree)?),
        None => None,
    };
    let (mut all, beside) = few()?.block_on(async {
        let found = keeper.stored(&needs.items).await.map_err(|e| wrong(&e))?;
        let mut all = standings(&needs, Some(&found));
        for kind in [Kind::Parameter, Kind::Secret] {
            let section = wanted.as_ref().map(|(p, s)| if kind == Kind::Parameter { p } else { s });
            let of_file = |name: &str| section?.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            let compared = |s: &Standing| s.item.placeholder.is_some() || of_file(&s.item.name).is_some();
            let ours = |s: &Standing| s.item.kind == kind && s.state != State::Missing && compared(s);
            let names: Vec<&str> = all.iter().filter(|s| ours(s)).map(|s| s.item.name.as_str()).collect();
            let values = keeper.values(kind, &names).await.map_err(|e| wrong(&e))?;
            for s in all.iter_mut().filter(|s| ours(s)) {
                let (now, file) = (values.get(&s.item.name).map(|v| v.as_str()), of_file(&s.item.name));
                s.state = match (s.state, now) {
                    (State::Set, Some(now)) if s.item.placeholder.as_deref() == Some(now) => State::Placeholder,
                    (State::Set, now) if file.is_some() && file != now => State::Differs,
                    (state, _) => state,
                };
            }
        }
        let beside = keeper.beside(&needs.items).await.map_err(|e| wrong(&e))?;
        Ok::<_, CliError>((all, beside))
    })?;
    all.extend(beside.into_iter().map(|s| Standing {
        item: Item::new(Kind::Parameter, &s.name),
        stored: Some(s),
        state: State::Foreign,
    }));
    all.retain(|s| s.state != State::Set);
    if all.is_empty() && args.output == Form::Table {
        crate::say::say!("the stores hold what the tree needs: {} parameters and secrets", needs.items.len());
        return Ok(ExitCode::SUCCESS);
    }
    print(&all, args.output, globals)?;
    Ok(if args.exit_code && !all.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The value that a person gives.
fn given(name: &str, keep_newline: bool) -> Result<Zeroizing<String>, CliError> {
    let input = std::io::stdin();
    if input.is_terminal() {
        let ask = |text: String| {
            rpassword::prompt_password(text).map(Zeroizing::new).map_err(|e| CliError::new(format!("no value: {e}")))
        };
        let first = ask(format!("value of {name}: "))?;
        let second = ask("the same again: ".to_string())?;
        if first != second {
            return Err(CliError::new("the two are not the same; nothing was set"));
        }
        return Ok(first);
    }
    // Large enough at once: what grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MOST).unwrap_or_default() + 64));
    let read = input.lock().take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(|e| CliError::new(format!("standard input cannot be read: {e}")))?;
    let mut value = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(_) => {
            return Err(CliError::new("the value is no UTF-8 text, which is all that stores take")
                .help("encode it as base64, and name `objectEncoding: base64` in the SecretProviderClass"));
        }
    };
    if !keep_newline && let Some(rest) = value.strip_suffix('\n') {
        value = rest.strip_suffix('\r').unwrap_or(rest);
    }
    Ok(Zeroizing::new(value.to_string()))
}

fn wrong(e: &druse_secrets::keep::KeepError) -> CliError {
    match e {
        druse_secrets::keep::KeepError::Aws(aws) => CliError::new(e).help(aws.cause().help()),
        other => CliError::new(other),
    }
}

fn outcome(item: &Item, w: &Written, region: Option<&str>) -> String {
    let place = region.unwrap_or_default();
    if w.unchanged {
        return format!("{}: unchanged, version {} in {place}\n", item.name, w.version);
    }
    let was = w.before.as_ref().map_or(" (new)".to_string(), |b| format!(" (was {b})"));
    let advanced = if w.advanced { "; an advanced parameter, which costs money" } else { "" };
    format!("{}: version {}{was} in {place}{advanced}\n", item.name, w.version)
}

/// What a new value means for those who read it.
fn consequences(readers: &[Reader], globals: &Globals) {
    if globals.quiet {
        return;
    }
    let paint = globals.paint_stderr();
    if readers.is_empty() {
        crate::say::say!("{} no pod of the tree reads it through a SecretProviderClass", paint.yellow("note:"));
    }
    for r in readers {
        let who = format!("{} {}/{}", r.kind, r.namespace, r.name);
        let restart = match r.kind.as_str() {
            "Deployment" | "StatefulSet" | "DaemonSet" => {
                format!("kubectl -n {} rollout restart {}/{}", r.namespace, r.kind.to_lowercase(), r.name)
            }
            _ => "start its pods again".to_string(),
        };
        if r.sub_path {
            crate::say::say!("  {who} mounts it with subPath, which never changes in a running pod: {restart}");
        } else {
            crate::say::say!("  {who} finds it in its file at the next rotation; if it reads it only once: {restart}");
        }
        for secret in &r.synced {
            let text = "is synced from it; what has it in its environment must be started again";
            crate::say::say!("  Secret {}/{secret} {text}", r.namespace);
        }
    }
}

fn when(seconds: Option<i64>) -> String {
    seconds.and_then(|s| jiff::Timestamp::from_second(s).ok()).map_or(String::new(), |t| t.to_string())
}

fn print(all: &[Standing], form: Form, globals: &Globals) -> Result<(), CliError> {
    let store = |k: Kind| if k == Kind::Parameter { "ssm" } else { "secretsmanager" };
    if form == Form::Table {
        let rows: Vec<[String; 7]> = all
            .iter()
            .map(|s| {
                let mut readers: Vec<String> =
                    s.item.readers.iter().map(|r| format!("{}/{}", r.namespace, r.name)).collect();
                readers.dedup();
                let version = s.stored.as_ref().and_then(|s| s.version.clone()).unwrap_or_default();
                [
                    s.item.name.clone(),
                    store(s.item.kind).to_string(),
                    s.state.word().to_string(),
                    version.chars().take(8).collect(),
                    when(s.stored.as_ref().and_then(|s| s.changed)),
                    s.item.declared.as_ref().map(ToString::to_string).unwrap_or_default(),
                    readers.join(", "),
                ]
            })
            .collect();
        let paint = globals.paint_stdout();
        let header = ["NAME", "STORE", "STATE", "VERSION", "CHANGED", "DECLARED", "READ BY"];
        let text = crate::table::table(header, &rows, paint, |column, cell| match (column, cell) {
            (2, "set") => paint.green(cell),
            (2, "missing" | "type") => paint.red(cell),
            (2, _) => paint.yellow(cell),
            _ => cell.to_string(),
        });
        return crate::say::print(&text);
    }
    let entries: Vec<serde_json::Value> = all
        .iter()
        .map(|s| {
            let place = s.item.declared.as_ref().map(|p| json!({ "file": &*p.file, "line": p.line }));
            let readers: Vec<serde_json::Value> = s
                .item
                .readers
                .iter()
                .map(|r| {
                    json!({
                        "namespace": r.namespace, "kind": r.kind, "name": r.name, "serviceAccount": r.account,
                        "secretProviderClass": r.class, "subPath": r.sub_path, "secrets": r.synced,
                    })
                })
                .collect();
            json!({
                "name": s.item.name,
                "store": store(s.item.kind),
                "state": s.state.word(),
                "type": s.stored.as_ref().map(|s| &s.stored_type).or(s.item.declared_type.as_ref()),
                "version": s.stored.as_ref().and_then(|s| s.version.as_ref()),
                "changed": s.stored.as_ref().and_then(|s| s.changed).map(|t| when(Some(t))),
                "declared": place,
                "readers": readers,
            })
        })
        .collect();
    let all = json!({ "secrets": entries });
    match form {
        Form::Yaml => crate::say::print(&druse_object::yaml::to_string(&druse_object::Value::from(all))),
        _ => crate::say::print(&format!("{all:#}\n")),
    }
}

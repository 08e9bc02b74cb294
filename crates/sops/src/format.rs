//! The file formats that sops encrypts.

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML, of several documents too.
    Yaml,
    /// A JSON object.
    Json,
    /// `KEY=value` lines.
    Dotenv,
    /// Sections of `key = value` lines; not decrypted by this version.
    Ini,
    /// Anything: one value in a JSON envelope.
    Binary,
}

impl Format {
    /// The format of a file by its name, as `sops` and Flux take it; names that end in `.dockerconfigjson` are JSON.
    #[must_use]
    pub fn for_path(path: &str) -> Self {
        let ends = |suffixes: &[&str]| suffixes.iter().any(|s| path.ends_with(s));
        if ends(&[".dockerconfigjson", ".json"]) {
            Self::Json
        } else if ends(&[".yaml", ".yml"]) {
            Self::Yaml
        } else if ends(&[".env"]) {
            Self::Dotenv
        } else if ends(&[".ini"]) {
            Self::Ini
        } else {
            Self::Binary
        }
    }

    /// Its name in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yaml => "YAML",
            Self::Json => "JSON",
            Self::Dotenv => "dotenv",
            Self::Ini => "INI",
            Self::Binary => "binary",
        }
    }

    fn marker(self) -> &'static [u8] {
        match self {
            Self::Yaml => b"mac: ENC[",
            Self::Json | Self::Binary => b"\"mac\": \"ENC[",
            Self::Dotenv => b"sops_mac=ENC[",
            Self::Ini => b"[sops]",
        }
    }

    /// Whether a file of this format looks encrypted: it holds the mark that Flux looks for.
    #[must_use]
    pub fn marks(self, bytes: &[u8]) -> bool {
        contains(bytes, self.marker())
    }

    /// The format of encrypted bytes, by the mark they hold; `None` when they hold none.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        [Self::Binary, Self::Dotenv, Self::Yaml, Self::Ini].into_iter().find(|f| f.marks(bytes))
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

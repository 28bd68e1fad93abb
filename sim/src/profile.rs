//! Models and hardware.

/// A model on its hardware.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Profile {
    name: &'static str,
    model: &'static str,
}

/// A word that names no profile.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no profile is called {0:?}; say one of {names}", names = Profile::names().join(", "))]
pub struct UnknownProfile(pub String);

impl Profile {
    /// The profile of this name.
    pub fn named(name: &str) -> Result<Profile, UnknownProfile> {
        match name {
            "8b" => Ok(Profile { name: "8b", model: "llama-3-8b" }),
            "70b" => Ok(Profile { name: "70b", model: "llama-3-70b" }),
            _ => Err(UnknownProfile(name.into())),
        }
    }

    /// All names.
    pub fn names() -> &'static [&'static str] {
        &["8b", "70b"]
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        self.model
    }

    /// Token slots of one KV block.
    pub fn kv_block_tokens(&self) -> u32 {
        16
    }
}

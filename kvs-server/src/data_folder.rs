//! `DataFolder`: which folder and which engine, decided before anything is opened or written.
//!
//! What must hold: data is never hidden. A server that would begin an empty store beside the data of another engine
//! refuses and says what to do.

use std::path::{Path, PathBuf};

use kvs_protocol::names::EngineName;

use crate::error::ServerError;
use crate::identity::Identity;
use crate::settings::Settings;

/// A folder and the engine that is to open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFolder {
    /// The folder; it may not exist yet.
    pub path: PathBuf,
    /// The engine.
    pub engine: EngineName,
}

impl DataFolder {
    /// Decides by what was asked for and by what lies there.
    ///
    /// # Errors
    /// [`ServerError::WrongEngine`], [`ServerError::ForeignVolume`], [`ServerError::Configuration`] when two engines'
    /// folders lie here and none was named, and [`ServerError::Io`].
    pub fn choose(settings: &Settings) -> Result<Self, ServerError> {
        let folder = match &settings.data_dir {
            Some(path) => Self::named(path.clone(), settings.engine)?,
            None => Self::in_folder(Path::new("."), settings.engine)?,
        };
        if let Some(identity) = Identity::read(&folder.path)? {
            identity.check_store(&folder.path, settings.store.as_deref())?;
        }
        Ok(folder)
    }

    /// Whether the folder holds data already.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn holds_data(&self) -> Result<bool, ServerError> {
        Ok(engine_of(&self.path)?.is_some())
    }

    /// The folder that was named: its data decides, an engine that was asked for must agree.
    fn named(path: PathBuf, wanted: Option<EngineName>) -> Result<Self, ServerError> {
        let found = engine_of(&path)?;
        match (found, wanted) {
            (Some(found), Some(wanted)) if found != wanted => {
                Err(ServerError::WrongEngine { folder: path, found, wanted })
            }
            _ => Ok(Self { path, engine: found.or(wanted).unwrap_or_default() }),
        }
    }

    /// No folder was named: `./kvs` or `./sled` of the current one.
    fn in_folder(parent: &Path, wanted: Option<EngineName>) -> Result<Self, ServerError> {
        let mut holding = Vec::new();
        for engine in EngineName::ALL {
            let path = parent.join(engine.as_str());
            if engine_of(&path)?.is_some() {
                holding.push((*engine, path));
            }
        }
        let engine = match (wanted, holding.as_slice()) {
            (None, []) => EngineName::default(),
            (None, [(engine, _)]) => *engine,
            (None, _) => {
                let engines: Vec<String> = holding.iter().map(|(engine, _)| format!("./{engine}")).collect();
                let cause = format!("{} hold data each; choose with --engine", engines.join(" and "));
                return Err(ServerError::Configuration(cause));
            }
            (Some(wanted), []) => wanted,
            (Some(wanted), held) if held.iter().any(|(engine, _)| *engine == wanted) => wanted,
            (Some(wanted), [(found, folder), ..]) => {
                return Err(ServerError::WrongEngine { folder: folder.clone(), found: *found, wanted });
            }
        };
        Self::named(parent.join(engine.as_str()), Some(engine))
    }
}

/// Which engine's data a folder holds, if any.
fn engine_of(folder: &Path) -> Result<Option<EngineName>, ServerError> {
    if let Some(identity) = Identity::read(folder)? {
        return Ok(Some(identity.engine));
    }
    // A folder that was written without the server has no identity: the engines' own files tell.
    if folder.join("MANIFEST").exists() {
        return Ok(Some(EngineName::Kvs));
    }
    if folder.join("conf").exists() && folder.join("db").exists() {
        return Ok(Some(EngineName::Sled));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn choose(parent: &Path, wanted: Option<EngineName>) -> Result<EngineName, String> {
        DataFolder::in_folder(parent, wanted).map(|folder| folder.engine).map_err(|error| error.to_string())
    }

    fn put_kvs(parent: &Path) {
        fs::create_dir_all(parent.join("kvs")).unwrap();
        fs::write(parent.join("kvs/MANIFEST"), "").unwrap();
    }

    fn put_sled(parent: &Path) {
        fs::create_dir_all(parent.join("sled")).unwrap();
        fs::write(parent.join("sled/conf"), "").unwrap();
        fs::write(parent.join("sled/db"), "").unwrap();
    }

    #[test]
    fn the_data_that_lies_here_decides() {
        let here = tempfile::tempdir().unwrap();
        assert_eq!(choose(here.path(), None), Ok(EngineName::Kvs));
        assert_eq!(choose(here.path(), Some(EngineName::Sled)), Ok(EngineName::Sled));
        fs::create_dir(here.path().join("kvs")).unwrap();
        assert_eq!(choose(here.path(), Some(EngineName::Sled)), Ok(EngineName::Sled), "an empty folder is no data");

        put_sled(here.path());
        assert_eq!(choose(here.path(), None), Ok(EngineName::Sled));
        let refusal = choose(here.path(), Some(EngineName::Kvs)).unwrap_err();
        assert!(
            refusal.ends_with(
                "holds data of the sled engine, not of kvs; start with --engine sled, or choose another --data-dir"
            ),
            "{refusal}"
        );

        put_kvs(here.path());
        assert_eq!(choose(here.path(), None), Err("./kvs and ./sled hold data each; choose with --engine".into()));
        assert_eq!(choose(here.path(), Some(EngineName::Kvs)), Ok(EngineName::Kvs));
        assert_eq!(choose(here.path(), Some(EngineName::Sled)), Ok(EngineName::Sled));
    }

    #[test]
    fn a_named_folder_is_opened_by_the_engine_that_wrote_it() {
        let here = tempfile::tempdir().unwrap();
        put_sled(here.path());
        let folder = here.path().join("sled");
        assert_eq!(DataFolder::named(folder.clone(), None).unwrap().engine, EngineName::Sled);
        let refusal = DataFolder::named(folder, Some(EngineName::Kvs)).unwrap_err();
        assert!(matches!(refusal, ServerError::WrongEngine { found: EngineName::Sled, .. }), "{refusal}");
    }
}

//! `Identity`: whose data a folder holds. A small file beside the engine's own, durable before the server serves.
//!
//! ```text
//! identity.json  {"version":1,"engine":"kvs","store":"default/quickstart","storeId":"..32 hex..","nodeId":"..32 hex.."}
//! ```
//!
//! What must hold: the ids are random and never change, so that a volume is recognized whatever pod has it; the file is
//! replaced as a whole (write, sync, rename, sync of the folder) and only while this process has the engine's lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use kvs_protocol::names::EngineName;
use serde::{Deserialize, Serialize};

use crate::error::ServerError;

/// The file's name in the data folder.
pub const IDENTITY_NAME: &str = "identity.json";
const NEW_IDENTITY_NAME: &str = "identity.json.new";
/// The form of the file that this version writes, and the only one that it reads.
const VERSION: u32 = 1;
/// The longest file that is read, in bytes: anything longer is not ours.
const MAX_BYTES: u64 = 64 * 1024;
/// Bytes of a random id, written as twice as many hexadecimal digits.
const ID_BYTES: usize = 16;

/// Whose data a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    version: u32,
    /// The engine that wrote the folder.
    pub engine: EngineName,
    /// `namespace/name` of the store, once a server of a named store has opened the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The store, as a random number that all its members share.
    pub store_id: String,
    /// This member of the store, as a random number.
    pub node_id: String,
}

impl Identity {
    /// Reads a folder's identity; `None` when it has none yet.
    ///
    /// # Errors
    /// [`ServerError::Io`]: the file can't be read or is not one of this version.
    pub fn read(folder: &Path) -> Result<Option<Self>, ServerError> {
        let path = folder.join(IDENTITY_NAME);
        let failed = |source| ServerError::io(format!("cannot read {}", path.display()), source);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
        let identity: Self = serde_json::from_str(&text).map_err(|error| {
            let cause = format!("{error}; restore it from a backup of this folder, or choose another --data-dir");
            failed(io::Error::new(io::ErrorKind::InvalidData, cause))
        })?;
        if identity.version != VERSION {
            let cause = format!("it has version {}, this server knows {VERSION}", identity.version);
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, cause)));
        }
        Ok(Some(identity))
    }

    /// Refuses a folder of another store.
    ///
    /// # Errors
    /// [`ServerError::ForeignVolume`].
    pub fn check_store(&self, folder: &Path, wanted: Option<&str>) -> Result<(), ServerError> {
        match (&self.store, wanted) {
            (Some(found), Some(wanted)) if found != wanted => Err(ServerError::ForeignVolume {
                folder: folder.to_owned(),
                found: found.clone(),
                wanted: wanted.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The folder's identity, made and written if it has none, completed by the store's name if it lacks that. Only
    /// for whoever has the engine's lock on the folder.
    ///
    /// # Errors
    /// [`ServerError::Io`] and [`ServerError::ForeignVolume`].
    pub fn establish(folder: &Path, engine: EngineName, store: Option<&str>) -> Result<Self, ServerError> {
        let found = Self::read(folder)?;
        if let Some(identity) = &found {
            identity.check_store(folder, store)?;
            if identity.store.is_some() || store.is_none() {
                return Ok(identity.clone());
            }
        }
        let failed = |source| ServerError::io(format!("cannot write {}", folder.join(IDENTITY_NAME).display()), source);
        let identity = match found {
            Some(identity) => Self { store: store.map(str::to_owned), ..identity },
            None => Self {
                version: VERSION,
                engine,
                store: store.map(str::to_owned),
                store_id: random_id().map_err(failed)?,
                node_id: random_id().map_err(failed)?,
            },
        };
        identity.write(folder).map_err(failed)?;
        Ok(identity)
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join(NEW_IDENTITY_NAME);
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, folder.join(IDENTITY_NAME))?;
        File::open(folder)?.sync_all()
    }
}

/// A random id from the operating system.
fn random_id() -> io::Result<String> {
    let mut bytes = [0; ID_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_and_the_store_is_added_once() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(folder.path()).unwrap(), None);
        let first = Identity::establish(folder.path(), EngineName::Kvs, None).unwrap();
        assert_eq!((first.store.as_deref(), first.store_id.len()), (None, 32));
        assert_ne!(first.store_id, first.node_id);

        let named = Identity::establish(folder.path(), EngineName::Kvs, Some("default/a")).unwrap();
        assert_eq!(named, Identity { store: Some("default/a".into()), ..first });
        assert_eq!(Identity::establish(folder.path(), EngineName::Kvs, None).unwrap(), named);
        assert_eq!(Identity::read(folder.path()).unwrap(), Some(named));

        let error = Identity::establish(folder.path(), EngineName::Kvs, Some("default/b")).unwrap_err();
        assert!(error.to_string().contains("belongs to the store default/a, not to default/b"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_no_new_folder() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{}", "{\"version\":2,\"engine\":\"kvs\",\"storeId\":\"a\",\"nodeId\":\"b\"}"] {
            fs::write(folder.path().join(IDENTITY_NAME), text).unwrap();
            assert!(Identity::read(folder.path()).is_err(), "{text}");
        }
    }
}

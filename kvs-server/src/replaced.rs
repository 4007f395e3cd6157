//! A repaired folder in the place of the damaged one.
//!
//! What must hold: at every moment there is a folder of the data's name, or a server that starts would begin an empty one; the
//! damaged data is kept, whole; a run that was cut off is finished by the next one. Two folders change their names in one step
//! of the system for that.
//!
//! | crash after …                          | `DATA` is    | `DATA.repairing` is                             |
//! |----------------------------------------|--------------|-------------------------------------------------|
//! | what is saved is being written         | the damaged  | half of it; the next run begins it anew         |
//! | the two have changed their names       | the repaired | the damaged; the next run calls it DATA.damaged |

use std::fs::{self, File};
use std::io;
use std::path::Path;

use kvs_engine::repair::{Plan, Repaired};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::ServerError;
use crate::identity::IDENTITY_NAME;
use crate::restored::{NOTE_NAME, with_suffix};

/// Puts what a plan saves in the place of its folder. `None` when nothing is damaged, and so nothing was to be done.
///
/// # Errors
/// [`ServerError::Configuration`] when the damaged data of an earlier repair is still there, and as [`Plan::save_into`].
pub(crate) fn replace(folder: &Path, plan: &Plan) -> Result<Option<Repaired>, ServerError> {
    let (scratch, damaged) = (with_suffix(folder, ".repairing"), with_suffix(folder, ".damaged"));
    let failed = |error: io::Error| ServerError::io(format!("cannot repair {}", folder.display()), error);
    let is_sound = plan.losses.is_empty() && !plan.without_manifest;
    if damaged.exists() && (!is_sound || scratch.exists()) {
        let cause = format!("{} holds the damaged data of an earlier repair; move it away first", damaged.display());
        return Err(ServerError::Configuration(cause));
    }
    if is_sound {
        // What is there beside sound data is the damaged data that it took the place of.
        if scratch.exists() {
            fs::rename(&scratch, &damaged).and_then(|()| sync_parent(folder)).map_err(failed)?;
        }
        return Ok(None);
    }
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let repaired = plan.save_into(&scratch)?;
    for note in [IDENTITY_NAME, NOTE_NAME] {
        match fs::copy(folder.join(note), scratch.join(note)) {
            Ok(_) => File::open(scratch.join(note)).and_then(|file| file.sync_all()).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    File::open(&scratch).and_then(|folder| folder.sync_all()).map_err(failed)?;
    renameat_with(CWD, &scratch, CWD, folder, RenameFlags::EXCHANGE).map_err(|error| failed(error.into()))?;
    sync_parent(folder).map_err(failed)?;
    fs::rename(&scratch, &damaged).and_then(|()| sync_parent(folder)).map_err(failed)?;
    Ok(Some(repaired))
}

fn sync_parent(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

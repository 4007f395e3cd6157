//! What the fuzz targets share: folders in memory that hold hostile files, and what must hold of a store over one.
//!
//! What must hold, whatever a folder holds: opening it ends, with a store or with an error, and in bounded time and
//! memory; a store that opened keeps its promises.

pub mod folder;
pub mod store;

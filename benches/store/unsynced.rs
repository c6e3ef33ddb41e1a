//! A disk for making large stores: what is measured is not the making.

use openexec::core::time::Time;
use openexec::sys::disk::{Directory, Disk};

/// A directory whose syncs do nothing.
pub struct Unsynced(pub Directory);

impl Disk for Unsynced {
    fn names(&self) -> std::io::Result<Vec<String>> {
        self.0.names()
    }
    fn length(&self, name: &str) -> std::io::Result<u64> {
        self.0.length(name)
    }
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(name, offset, buffer)
    }
    fn read_small(&self, name: &str, bytes_max: u64) -> std::io::Result<Option<Vec<u8>>> {
        self.0.read_small(name, bytes_max)
    }
    fn changed_at(&self, name: &str) -> std::io::Result<Option<Time>> {
        self.0.changed_at(name)
    }
    fn create(&self, name: &str) -> std::io::Result<()> {
        self.0.create(name)
    }
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_at(name, offset, bytes)
    }
    fn sync(&self, _: &str) -> std::io::Result<()> {
        Ok(())
    }
    fn link(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.link(from, to)
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }
    fn sync_directory(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn confirm(&self, name: &str) -> std::io::Result<()> {
        self.0.confirm(name)
    }
}

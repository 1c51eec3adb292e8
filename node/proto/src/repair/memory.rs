//! What repair remembers over restarts, and its bytes. Kept sealed: it says which nodes were around, and when.

use warren_keys::Location;

use super::{limits::MAX_MEMBERS, members::MemberRecord, walk::CensusMark};
use crate::{
    time::WallTime,
    wire::{Reader, WireError},
};

/// Version of the saved form.
const VERSION: u8 = 1;
/// Records in it. Links may make more members than are remembered; the daemon's links are fewer.
const MAX_RECORDS: usize = 4 * MAX_MEMBERS;

/// What a node remembers of the members around it, and where its census stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RepairMemory {
    /// Own uptime of all runs, seconds.
    pub uptime: u64,
    /// Where the census stands; none before the first start.
    pub census: Option<CensusMark>,
    /// The members, in order of their places.
    pub members: Vec<MemberRecord>,
}

impl RepairMemory {
    /// The saved form: version u8, uptime u64, census (flag u8, cursor u64, done u64, started u64), number of members u16,
    /// and for each its place, since, seen, uptime when seen, presence, all u64. Big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.uptime.to_be_bytes());
        let census = self.census.unwrap_or_default();
        out.push(u8::from(self.census.is_some()));
        for number in [census.cursor, census.done, census.started.0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let members = &self.members[..self.members.len().min(MAX_RECORDS)];
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_RECORDS")]
        out.extend_from_slice(&(members.len() as u16).to_be_bytes());
        for member in members {
            let numbers = [
                member.place.as_u64(),
                member.since.0,
                member.seen.0,
                member.seen_at_uptime,
                member.presence,
            ];
            for number in numbers {
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        out
    }

    /// Takes the saved form up again.
    ///
    /// # Errors
    /// Not what [`RepairMemory::to_bytes`] makes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let uptime = reader.u64()?;
        let present = reader.flag("census")?;
        let census = CensusMark {
            cursor: reader.u64()?,
            done: reader.u64()?,
            started: WallTime(reader.u64()?),
        };
        let count = usize::from(reader.u16()?);
        if count > MAX_RECORDS {
            return Err(WireError::Value {
                field: "number of members",
                value: count as u64,
            });
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            members.push(MemberRecord {
                place: Location::new(reader.u64()?),
                since: WallTime(reader.u64()?),
                seen: WallTime(reader.u64()?),
                seen_at_uptime: reader.u64()?,
                presence: reader.u64()?,
            });
        }
        reader.finish()?;
        Ok(Self {
            uptime,
            census: present.then_some(census),
            members,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_comes_back_and_cuts_are_refused() {
        let record = |n: u64| MemberRecord {
            place: Location::new(n),
            since: WallTime(n + 1),
            seen: WallTime(n + 2),
            seen_at_uptime: n + 3,
            presence: n + 4,
        };
        let memory = RepairMemory {
            uptime: 77,
            census: Some(CensusMark {
                cursor: 5,
                done: 6,
                started: WallTime(7),
            }),
            members: (0..20).map(record).collect(),
        };
        let bytes = memory.to_bytes();
        assert_eq!(RepairMemory::from_bytes(&bytes).as_ref(), Ok(&memory));
        for len in 0..bytes.len() {
            assert!(RepairMemory::from_bytes(&bytes[..len]).is_err());
        }
        let empty = RepairMemory::default();
        assert_eq!(RepairMemory::from_bytes(&empty.to_bytes()).as_ref(), Ok(&empty));
        let crowd = RepairMemory {
            members: (0..5000).map(record).collect(),
            ..empty
        };
        let read = RepairMemory::from_bytes(&crowd.to_bytes()).unwrap();
        assert_eq!(read.members.len(), MAX_RECORDS);
    }
}

//! Twenty nodes live through bad times, and in the end every file that was inserted comes whole.
//!
//! Every run ends with [`Fleet::finish`](warren_tests::process::chaos::fleet::Fleet::finish): all files from several nodes, no memory beyond its
//! budget, no panic. What is guaranteed while the trouble lasts is in each test.

mod clock;
mod disk;
mod partition;
mod replaced;
mod restarts;
mod silent;
mod slow;

use std::time::Duration;

/// A link to a node from which nothing comes any more is given up within this: half a minute when something is asked there or TCP
/// finds the line dead (protocol §5.3, §7.8), and time for a busy machine.
const LINKS_END: Duration = Duration::from_secs(240);

/// A load has done some transfers within this.
const LOAD: Duration = Duration::from_secs(180);

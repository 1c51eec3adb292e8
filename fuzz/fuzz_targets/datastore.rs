//! See `warren_fuzz::storage::datastore`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::storage::datastore);

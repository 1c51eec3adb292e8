//! See `warren_fuzz::storage::files`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::storage::files);

//! See `warren_fuzz::keys::root`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::keys::root);

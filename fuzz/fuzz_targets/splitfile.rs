//! See `warren_fuzz::keys::splitfile`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::keys::splitfile);

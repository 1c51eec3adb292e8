//! See `warren_fuzz::machines::send_queue`.
#![cfg_attr(fuzzing, no_main)]

warren_fuzz::program!(warren_fuzz::machines::send_queue);

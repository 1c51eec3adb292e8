//! Link machines and circuits, whole: real machines in memory.

mod circuits;
mod corruption;
mod hostile;
mod life;

mod controller;
mod life;
mod world;

use super::{controller::Controller, world::*};

#[test]
fn a_good_canary_goes_through_the_steps_and_becomes_stable() {
    let mut world = World::new();
    let mut controller = Controller::default();
    for _ in 0..3 {
        controller.turn(&mut world, GOOD);
        world.now += std::time::Duration::from_secs(10);
    }
    world.want("v2");
    for _ in 0..20 {
        controller.turn(&mut world, GOOD);
        eprintln!(
            "{:?} {} {:?} {:?} a:{}",
            world.now,
            world.status.message,
            world.status.phase,
            world.status.reason,
            world.weight("a", "v2")
        );
        world.now += std::time::Duration::from_secs(10);
    }
    assert_eq!(world.status.stable, Some(predictor("v2")));
}

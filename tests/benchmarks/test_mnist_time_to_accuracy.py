from benchmarks.mnist_time_to_accuracy import Leg, to_target

LEGS = [Leg(10.0, 18.0, 0.97), Leg(11.0, 19.0, 0.985), Leg(12.0, 20.0, 0.99)]


def test_time_counts_up_to_the_first_that_reaches_the_target():
    assert to_target(LEGS) == {"reached": True, "epochs": 2, "wall_s": 21.0, "cpu_s": 37.0}


def test_without_the_target_all_of_it_is_a_lower_bound():
    assert to_target(LEGS[:1]) == {"reached": False, "epochs": 1, "wall_s": 10.0, "cpu_s": 18.0}

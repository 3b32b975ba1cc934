import numpy as np

from workbench.training.sampler import batches, epoch_order

GRADES = np.array([0] * 80 + [2] * 16 + [4] * 4)


def test_an_epoch_is_every_exam_once_in_an_order_of_its_own():
    first, again, second = (epoch_order(GRADES, balance=0.0, seed=1, epoch=epoch) for epoch in (0, 0, 1))
    assert sorted(first) == list(range(100))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_full_balance_draws_every_grade_alike():
    drawn = np.concatenate([GRADES[epoch_order(GRADES, balance=1.0, seed=0, epoch=epoch)] for epoch in range(40)])
    assert np.allclose([(drawn == grade).mean() for grade in (0, 2, 4)], 1 / 3, atol=0.03)


def test_batches_are_whole_and_few_exams_make_one():
    assert [len(batch) for batch in batches(np.arange(10), 4)] == [4, 4]
    assert [len(batch) for batch in batches(np.arange(3), 4)] == [3]

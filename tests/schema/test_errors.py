import pickle

from workbench.data.decode import UnreadablePhotograph
from workbench.schema.errors import WorkbenchError


def test_an_error_of_a_worker_process_comes_home_whole():
    error = pickle.loads(pickle.dumps(WorkbenchError("epsilon is -1", "give 0 or more")))
    assert str(error) == "epsilon is -1 — give 0 or more"
    assert (error.what, error.remedy) == ("epsilon is -1", "give 0 or more")


def test_so_does_one_that_is_made_from_a_reason():
    error = pickle.loads(pickle.dumps(UnreadablePhotograph("truncated")))
    assert (error.reason, type(error)) == ("truncated", UnreadablePhotograph)
    assert str(error).startswith("truncated — ")

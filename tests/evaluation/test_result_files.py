"""The scores that an evaluation prints."""

from stii_jax.evaluation.result_files import print_scores


def test_a_score_of_one_video_has_no_standard_error(capsys):
    one = {"num_frames": 5, "num_videos": 1, "mse": 0.0592, "mse_stderr": float("nan")}
    print_scores([one, {"num_frames": 9, "num_videos": 2, "mse": 0.05, "mse_stderr": 0.01}])
    assert capsys.readouterr().out == "5 frames, 1 video: mse 0.0592\n9 frames, 2 videos: mse 0.0500 +- 0.0100\n"

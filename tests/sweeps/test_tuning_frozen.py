"""A search keeps the configs that it was made of, interpolations included."""

from searching_here import LR, Here

from gradflow.runs.compose import composer


def test_a_value_that_is_made_from_another_follows_it(tmp_path):
    conf = tmp_path / "conf" / "optimizer"
    conf.mkdir(parents=True)
    keys = "lr: 0.1\nmomentum: 0.0\nnesterov: false\nweight_decay: ${optimizer.lr}\n"
    (conf / "tied.yaml").write_text(f"_target_: gradflow.training.optimizers.sgd\n{keys}")
    with composer(str(tmp_path / "conf")) as own:
        search, _ = Here(own, tmp_path).ask(LR, "optimizer=tied")
    assert search.config(search.techniques[0], {"optimizer.lr": 0.03}, 0).optimizer["weight_decay"] == 0.03


def test_a_folder_holds_one_search_whose_configs_are_frozen(tmp_path):
    conf = tmp_path / "conf" / "activation"
    conf.mkdir(parents=True)
    (conf / "mine.yaml").write_text("_target_: gradflow.models.activations.leaky_relu\nslope: 0.1\n")
    seen = []
    for slope in (0.1, 0.2):
        (conf / "mine.yaml").write_text(f"_target_: gradflow.models.activations.leaky_relu\nslope: {slope}\n")
        with composer(str(tmp_path / "conf")) as own:
            here = Here(own, tmp_path)
            seen.append(here.ask(LR, "activation=mine", "tune.name=one", f"tune.trials={3 if slope == 0.1 else 5}")[0])
    assert [s.config(s.techniques[0], {"optimizer.lr": 0.1}, 0).activation["slope"] for s in seen] == [0.1, 0.1]
    assert [s.trials for s in seen] == [3, 5]

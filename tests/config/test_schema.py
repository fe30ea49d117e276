"""Settings and the rules about them."""

import pytest

from cvhpe.config.resolve import read_toml
from cvhpe.config.schema import Augmentation, Config, checked
from cvhpe.errors import UserError


def test_defaults_are_the_papers():
    c = Config()
    assert (c.latent_dim, c.lr, c.batch_size, c.image_size, c.backbone) == (30, 1e-4, 64, 256, "resnet18")
    assert (c.augmentation.rotation_deg, c.augmentation.flip, c.hidden_dim, c.num_hidden_layers) == (45, 0.5, 512, 5)


def test_toml_round_trip(tmp_path):
    c = checked({"pairs": ["rgb:rgb"], "lr": 3e-4, "pair_weights": {"rgb:rgb": 0.5}, "augmentation": {"flip": 0.0}})
    path = tmp_path / "config.toml"
    path.write_text(c.toml())
    assert checked(read_toml(path)) == c


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lrr": 1}, "unknown setting 'lrr'; did you mean 'lr'?"),
        ({"augmentation": {"flipp": 1}}, "did you mean 'augmentation.flip'?"),
        ({"lr": -1}, "lr = -1"),
        ({"image_size": 100}, "image_size = 100"),
        ({"batch_size": "many"}, "batch_size = 'many'"),
        ({"protocol": "S"}, "protocol = 'S'"),
        ({"low_res_fraction": 0.25, "image_size": 64}, "low_res_fraction 0.25: half of image_size 64 is too small"),
        ({"aux_keypoint_weight": 1.0}, "aux_keypoint_weight 1.0: needs --set backbone=keypoints and joints2d"),
    ],
)
def test_what_does_not_fit_is_one_line(settings, says):
    with pytest.raises(UserError) as caught:
        checked(settings)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_setting_has_a_description():
    fields = {**Config.model_fields, **Augmentation.model_fields}
    assert [name for name, field in fields.items() if not field.description] == []

"""Settings that make the mocks of cluster images quick."""

SMALL = (
    "data.clusters.age_step=0.7",
    "data.size=48",
    "data.setups=2",
    "data.fields.tiles=2",
    "data.fields.held_out_tiles=2",
    "data.fields.size=128",
    "data.camera.blur=1.0",
    "data.camera.metallicity=0.0",
)

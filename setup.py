from setuptools import find_packages, setup

MPE = ["mpe2>=1.1,<2", "pettingzoo>=1.27,<2"]

setup(
    name="skillrl",
    version="0.1.0",
    description="Skills learnt without reward, and composed hierarchically",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["skillrl", "skillrl.*", "envs", "envs.*"]),
    package_data={"envs": ["assets/**/*"], "skillrl": ["**/*.html", "**/*.css", "**/*.js"]},
    # requirements.txt holds the exact versions that are tested; these are the ranges that the code is written for
    install_requires=[
        "torch>=2.13,<2.14",
        "numpy>=2.0,<3",
        "gymnasium[mujoco]>=1.4,<1.5",
        "mujoco>=3.11,<3.12",  # Ant's and Humanoid's physics differ by version
        "cloudpickle>=3,<4",
        "hydra-core>=1.3.2,<1.4",
        "hydra-joblib-launcher>=1.2,<2",
        "joblib>=1.3,<2",  # of the launcher, which would take any
        "wandb>=0.31,<1",
        "tensorboard>=2.19,<3",
        "stable-baselines3>=2.9,<3",
        "safetensors>=0.5,<1",
        "rich>=13",
        "matplotlib>=3.9,<4",
        "pillow>=10",
        "pyyaml>=6",
        "imageio-ffmpeg>=0.6,<1",
    ],
    extras_require={
        "mpe": MPE,
        "dev": ["pytest>=8", "pytest-xdist>=3.6", "ruff>=0.9", "mypy>=1.14", *MPE],  # of env=mpe there are tests
    },
)

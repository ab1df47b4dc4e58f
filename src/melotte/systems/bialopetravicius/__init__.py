"""The networks of Bialopetravičius et al. 2019 (M31) and Bialopetravičius & Narbutis 2020 (M83)."""

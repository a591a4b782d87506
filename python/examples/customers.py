"""Find groups of customers in a table with columns of different kinds, missing values included."""

import sys

import numpy as np
import pandas as pd

from entropysum import Mixture

rng = np.random.default_rng(0)
n = 3000
group = rng.choice(3, n, p=[0.5, 0.3, 0.2])
customers = pd.DataFrame(
    {
        "age": rng.normal(np.array([24.0, 45.0, 70.0])[group], 5.0),
        "income": rng.normal(np.array([20.0, 60.0, 35.0])[group], 8.0),
        "visits": rng.poisson(np.array([12.0, 4.0, 1.0])[group]),
        "city": np.array(["Oldenburg", "Bremen", "Hamburg"])[(group + rng.choice(3, n, p=[0.8, 0.1, 0.1])) % 3],
    }
)
customers.loc[::10, "income"] = np.nan

mixture = Mixture(3, family="auto", missing="ignore", n_init=5, random_state=0).fit(customers)
labels = mixture.predict(customers)

print(mixture.model_.name)
table = pd.crosstab(labels, group, rownames=["component"], colnames=["group"])
print(table)
for component, weight in enumerate(mixture.weights_):
    members = customers[labels == component]
    print(f"{component}: {weight:.2f} of all, age {members.age.mean():.0f}, {members.visits.mean():.1f} visits, {members.city.mode()[0]}")

assert table.to_numpy().max(axis=1).sum() > 0.95 * n, "groups are found"
mixture.save(sys.argv[1] if len(sys.argv) > 1 else "customers.json")

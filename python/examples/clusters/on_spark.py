"""Learn a mixture from a Spark data frame, by mapInArrow.

pip install pyspark pyarrow, and Java 17 or later, then python on_spark.py. In each iteration Spark hands all points to Python again:
this is for points that are in Spark already. For many iterations write them to files, and let Dask or Ray read these.
"""

import os
import pickle
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession

from entropysum import GaussianMixture
from entropysum.partitions import Partitions

RESULT = pa.schema([("part", pa.int32()), ("result", pa.binary())])


class SparkPartitions(Partitions):
    """Points in a Spark data frame, which must be cached: its partitions stay as they are then."""

    def __init__(self, frame):
        self.frame, self.schema = frame, frame.limit(0).toArrow().schema

    def map(self, function, argument):
        schema, task = self.schema, self.frame.sparkSession.sparkContext.broadcast((function, argument))

        def apply(batches):
            index = TaskContext.get().partitionId()
            points = pa.Table.from_batches(batches, schema)
            function, argument = task.value
            result = pickle.dumps(function(index, points, argument))
            yield pa.RecordBatch.from_pydict({"part": [index], "result": [result]}, schema=RESULT)

        rows = self.frame.mapInArrow(apply, "part int, result binary").collect()
        task.destroy()
        return [pickle.loads(row.result) for row in sorted(rows, key=lambda row: row.part)]


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", False).getOrCreate()
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 8.0]])
    points = centres[rng.integers(0, 3, 20_000)] + rng.normal(size=(20_000, 2))
    frame = spark.createDataFrame(pd.DataFrame(points, columns=["width", "height"])).repartition(4).cache()
    frame.count()

    mixture = GaussianMixture(3, random_state=0).fit(SparkPartitions(frame))
    print(mixture.feature_names_in_, mixture.weights_, mixture.means_, sep="\n")

    here = GaussianMixture(3, random_state=0).fit(frame.toPandas())
    np.testing.assert_allclose(mixture.means_, here.means_, atol=1e-9)
    spark.stop()

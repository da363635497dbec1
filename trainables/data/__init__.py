"""Image datasets as arrays with fixed splits: by name, or a user's own files.

- `dataset`: the three splits that every source gives, and nested label subsets
- `options`: another image size, grey, some of the classes, some of the images
- `mnist`, `embedded`, `vision`: datasets by name
- `folder`, `arrays`, `tables`: image files, NumPy files, CSV and Parquet
- `collection`: a user's images, not divided yet; `cache`: decoded images by their files' content
- `sources`: finds the reader for a name or path

Images stay bytes: a trainable puts them on its device once, and converts each minibatch before its
use. They are NumPy arrays, not tensors, because all workers of a node share Ray's one copy of an
array. torch is imported only when images become tensors; pandas, pyarrow, Pillow and torchvision
only when a source needs them. This keeps planning fast.
"""

from trainables.data.dataset import DIGITS as DIGITS
from trainables.data.dataset import DataError as DataError
from trainables.data.dataset import Dataset as Dataset
from trainables.data.dataset import Split as Split
from trainables.data.dataset import label_subset as label_subset
from trainables.data.dataset import pixels as pixels
from trainables.data.dataset import stratified as stratified
from trainables.data.mnist import cache_folder as cache_folder
from trainables.data.mnist import default_data_dir as default_data_dir
from trainables.data.options import WHOLE as WHOLE
from trainables.data.options import Options as Options
from trainables.data.sources import NAMES as NAMES
from trainables.data.sources import is_path as is_path
from trainables.data.sources import is_source as is_source
from trainables.data.sources import load as load

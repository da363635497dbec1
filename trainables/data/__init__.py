"""Image datasets as arrays with fixed splits: by name, or a user's own files.

- `dataset`: what every source makes: three splits, and nested label subsets
- `options`: another size, grey, some of the classes, a part
- `mnist`, `embedded`, `vision`: datasets by name
- `folder`, `arrays`, `tables`: image files, NumPy files, CSV and Parquet
- `collection`: images of a user, not divided yet; `kept`: decoded images, kept for the next time
- `sources`: finds out which of these a name or path means

Images stay bytes; a trainable puts them on its device once and converts the minibatch it is about
to use. NumPy arrays, not tensors, because Ray hands those to every worker of a node from one shared
copy. Nothing here imports torch until images become tensors, nor pandas, scikit-learn or
torchvision until a source needs them: planning takes no time.
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

"""The images of one call: divided between PyTorch's threads, or one part after the other as memory allows."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


def in_parallel(work: Callable[..., Any], most: int, *tensors: Tensor) -> list[Any]:
    """`work` on parts of `tensors` (each [N, ...], N at least 1), one part in each of PyTorch's threads.

    By itself PyTorch divides every single operation between its threads, which then wait for each other hundreds of
    times an image; and what one core has in its cache, the other needs. No gradients are recorded.

    Args:
        work: takes a part of each tensor.
        most: the largest number of parts.

    Returns:
        What `work` gave for each part, in their order.
    """
    threads = torch.get_num_threads()
    workers = max(1, min(threads, most, len(tensors[0])))

    def without_gradients(*parts: Tensor) -> Any:
        with torch.no_grad():
            return work(*parts)

    if workers == 1:
        return [without_gradients(*tensors)]
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            return list(pool.map(without_gradients, *(tensor.tensor_split(workers) for tensor in tensors)))
    finally:
        torch.set_num_threads(threads)  # new threads take their number from the last one set anywhere


class Parts:
    """How many images go through together: `most`, and half as many from then on whenever memory is short.

    What a pass takes depends on the network, the device and what else lies there, and is known when it was tried.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, work: Callable[[Tensor], Any], images: Tensor) -> Iterator[Any]:
        """What `work` gives of each part of `images` [N, ...], in their order; of no image, what it gives of none.

        Raises:
            OutOfMemoryError: a single image is too much.
        """
        done = 0
        while True:
            part, short = images[done : done + self.most], False
            try:
                found = work(part)
            except torch.OutOfMemoryError:
                if len(part) <= 1:
                    raise
                short = True
            if short:  # not within the block above, whose error holds on to what the pass had taken
                self.most = (len(part) + 1) // 2
                torch.cuda.empty_cache()
                continue
            yield found
            done += len(part)
            if done >= len(images):
                return

"""The images of one call, divided between PyTorch's threads."""

from collections.abc import Callable
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

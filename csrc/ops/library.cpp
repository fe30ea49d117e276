// The operator namespace; each operator defines its schema in a fragment beside this file.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(cvhpe, m) { (void)m; }

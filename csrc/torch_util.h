// Small helpers over torch's stable ABI: error messages, fast allocation, dispatch on the number type.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "math/number.h"

namespace cvhpe {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

// The shape of a tensor, formatted only where a message needs it: a string stream takes microseconds.
struct Shape {
  const Tensor& tensor;
};

inline Shape shape_of(const Tensor& t) { return {t}; }

inline std::ostream& operator<<(std::ostream& out, Shape shape) {
  out << '[';
  for (int64_t d = 0; d < shape.tensor.dim(); ++d) out << (d ? ", " : "") << shape.tensor.size(d);
  return out << ']';
}

template <class... Parts>
[[noreturn, gnu::noinline, gnu::cold]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

// The message is "op: argument: its value, what is expected"; it becomes a RuntimeError in Python.
template <class... Parts>
inline void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]]
    fail(parts...);
}

inline bool same_device(const Tensor& a, const Tensor& b) {
  return a.is_cpu() == b.is_cpu() && a.get_device_index() == b.get_device_index();
}

inline Tensor dense(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }
inline MaybeTensor dense(const MaybeTensor& t) { return t ? MaybeTensor(dense(*t)) : MaybeTensor(); }

// A new contiguous tensor on the device of `like`, made without the dispatcher, which takes a microsecond.
inline Tensor empty(const std::vector<int64_t>& sizes, ScalarType type, const Tensor& like) {
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = step;
    step *= sizes[d] > 1 ? sizes[d] : 1;
  }
  int32_t device_type = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle made = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(), static_cast<int32_t>(type), device_type,
      like.get_device_index(), &made));
  return Tensor(made);
}

template <class T>
struct Tag {
  using type = T;
};

// Calls f(Tag<T>) with the T that the type is stored as; an error names the operator and the argument otherwise.
template <class F>
inline void dispatch(ScalarType type, const char* what, F&& f) {
  switch (type) {
    case ScalarType::Float: return f(Tag<float>{});
    case ScalarType::BFloat16: return f(Tag<BFloat>{});
    case ScalarType::Half: return f(Tag<Half>{});
    default: check(false, what, ": dtype is not floating point, expected float32, bfloat16 or float16");
  }
}

// The NumberType of a dtype, which is its place in the tables of csrc/cpu.
inline int type_index(ScalarType type, const char* what) {
  int index = 0;
  dispatch(type, what, [&](auto tag) {
    using T = typename decltype(tag)::type;
    index = std::is_same_v<T, float> ? kFloat : std::is_same_v<T, BFloat> ? kBFloat : kHalf;
  });
  return index;
}

inline const void* data(const Tensor& t) { return t.const_data_ptr(); }
inline void* data(Tensor& t) { return t.mutable_data_ptr(); }

}  // namespace cvhpe

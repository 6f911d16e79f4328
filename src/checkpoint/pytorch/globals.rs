//! The names that a state dict's pickle may use, and what they stand for here. No other is looked up, let alone called.

/// A number format of PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TorchDtype {
    /// Its name in the words of safetensors.
    pub name: &'static str,
    /// Bytes that one number takes.
    pub n_bytes: u64,
}

/// A name of Python's that means something to us.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    /// `torch.Size`: a tuple.
    Size,
    /// `torch._utils._rebuild_tensor` and its relatives: storage, offset, shape, strides.
    RebuildTensor,
    /// The same with the number format as seventh argument, since its storage is bytes.
    RebuildTensorV3,
    /// What wraps a tensor, which is its first argument.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: a function, a class, the function's arguments and a state.
    RebuildFromType,
    /// A class of storages; `UntypedStorage` has no number format.
    Storage(Option<TorchDtype>),
    Dtype(TorchDtype),
    /// What is only named or says nothing of numbers.
    Ignored,
}

/// Name of the dtype, of its class of storages, in safetensors, bytes.
const DTYPES: [(&str, &str, &str, u64); 20] = [
    ("float32", "FloatStorage", "F32", 4),
    ("float16", "HalfStorage", "F16", 2),
    ("bfloat16", "BFloat16Storage", "BF16", 2),
    ("float64", "DoubleStorage", "F64", 8),
    ("int64", "LongStorage", "I64", 8),
    ("int32", "IntStorage", "I32", 4),
    ("int16", "ShortStorage", "I16", 2),
    ("int8", "CharStorage", "I8", 1),
    ("uint8", "ByteStorage", "U8", 1),
    ("bool", "BoolStorage", "BOOL", 1),
    ("complex64", "ComplexFloatStorage", "C64", 8),
    ("complex128", "ComplexDoubleStorage", "C128", 16),
    ("qint8", "QInt8Storage", "QI8", 1),
    ("quint8", "QUInt8Storage", "QU8", 1),
    ("qint32", "QInt32Storage", "QI32", 4),
    ("float8_e4m3fn", "", "F8_E4M3", 1),
    ("float8_e5m2", "", "F8_E5M2", 1),
    ("uint16", "", "U16", 2),
    ("uint32", "", "U32", 4),
    ("uint64", "", "U64", 8),
];

/// What a name stands for; `None` for every name that is not on the list.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    let dtype = |column: fn(&(&'static str, &'static str, &'static str, u64)) -> &'static str| {
        let row = DTYPES.iter().find(|row| column(row) == name && !name.is_empty())?;
        Some(TorchDtype { name: row.2, n_bytes: row.3 })
    };
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch", "Size") => Global::Size,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
        ("torch.nn.parameter", "Parameter") => Global::RebuildParameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch", "Tensor") | ("torch", "device") => Global::Ignored,
        ("torch.storage" | "torch", "UntypedStorage") => Global::Storage(None),
        ("torch" | "torch.cuda" | "torch.storage", _) if name.ends_with("Storage") => {
            Global::Storage(Some(dtype(|row| row.1)?))
        }
        ("torch", _) => Global::Dtype(dtype(|row| row.0)?),
        _ => return None,
    })
}

/// The name under which Python 3 knows what Python 2 and pickles of its protocols name differently.
pub(super) fn full_name(module: &str, name: &str) -> String {
    let module = if module == "__builtin__" { "builtins" } else { module };
    format!("{module}.{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_is_known() {
        let half = TorchDtype { name: "F16", n_bytes: 2 };
        assert_eq!(find("torch", "HalfStorage"), Some(Global::Storage(Some(half))));
        assert_eq!(find("torch", "float16"), Some(Global::Dtype(half)));
        assert_eq!(find("torch.storage", "UntypedStorage"), Some(Global::Storage(None)));
        for (module, name) in [
            ("builtins", "eval"),
            ("__builtin__", "eval"),
            ("os", "system"),
            ("torch", "load"),
            ("torch", ""),
            ("torch.cuda", ""),
            ("torch", "ExoticStorage"),
            ("torch.storage", "_load_from_bytes"),
            ("torch.hub", "load"),
            ("collections", "OrderedDict.fromkeys"),
            ("functools", "partial"),
        ] {
            assert_eq!(find(module, name), None, "{module}.{name}");
        }
        assert_eq!(full_name("__builtin__", "eval"), "builtins.eval");
    }
}

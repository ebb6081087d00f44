# CMake knows C++20 for nvcc since 3.25.2, and Debian 12 has 3.25.1: there cuda_std_20 is an error
# and CMAKE_CUDA_STANDARD 20 adds no flag. These variables are all that 3.25.1 lacks. A plain
# -std=c++20 option would not do: the -std=c++17 of a parent comes after it, and nvcc takes the last.
macro(moe_teach_cuda_20)
  if(CMAKE_VERSION VERSION_LESS 3.25.2 AND CMAKE_CUDA_COMPILER_ID STREQUAL "NVIDIA"
     AND NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_COMPILE_FEATURES cuda_std_20)
    list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
  endif()
endmacro()

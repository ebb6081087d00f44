# Finds NCCL: target NCCL::nccl, the name that newer NCCL exports itself. Older ones ship no CMake
# package. Order: NCCL_ROOT or NCCL_HOME, NCCL's own package, the CUDA toolkit, the system, a pip
# wheel (which has libnccl.so.2 and no libnccl.so).
include(FindPackageHandleStandardArgs)
set(nccl_hints "")
foreach(name IN ITEMS NCCL_ROOT NCCL_HOME)
  if(DEFINED ${name})
    list(APPEND nccl_hints "${${name}}")
  endif()
  if(DEFINED ENV{${name}})
    list(APPEND nccl_hints "$ENV{${name}}")
  endif()
endforeach()

if(NOT TARGET NCCL::nccl AND NOT nccl_hints)
  find_package(NCCL ${NCCL_FIND_VERSION} CONFIG QUIET)
  if(NCCL_FOUND)
    find_package_handle_standard_args(NCCL CONFIG_MODE)
  endif()
endif()

if(NOT TARGET NCCL::nccl)
  foreach(directory IN LISTS CUDAToolkit_INCLUDE_DIRS)
    list(APPEND nccl_hints "${directory}/..")
  endforeach()
  set(nccl_wheel "")
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_FOUND)
    execute_process(COMMAND "${Python3_EXECUTABLE}" -c
      "import nvidia.nccl as n; print(list(n.__path__)[0])"
      OUTPUT_VARIABLE nccl_wheel OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${nccl_hints} PATHS ${nccl_wheel} /usr/local/cuda
            PATH_SUFFIXES include)
  # The library of the place where the header was: a mixed pair fails at run time. NAMES_PER_DIR, or
  # every directory is searched for the first name before any is for the second.
  cmake_path(GET NCCL_INCLUDE_DIR PARENT_PATH nccl_prefix)
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 NAMES_PER_DIR
               HINTS "${nccl_prefix}" ${nccl_hints} PATHS ${nccl_wheel} /usr/local/cuda
               PATH_SUFFIXES lib lib64 lib/${CMAKE_LIBRARY_ARCHITECTURE})
  mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)
  if(NCCL_INCLUDE_DIR)
    file(STRINGS "${NCCL_INCLUDE_DIR}/nccl.h" nccl_lines
         REGEX "#define NCCL_(MAJOR|MINOR|PATCH) +[0-9]+")
    string(REGEX REPLACE "[^0-9]*([0-9]+);[^0-9]*([0-9]+);[^0-9]*([0-9]+).*" "\\1.\\2.\\3"
           NCCL_VERSION "${nccl_lines}")
  endif()
  find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_LIBRARY NCCL_INCLUDE_DIR
                                    VERSION_VAR NCCL_VERSION)
  if(NCCL_FOUND)
    add_library(NCCL::nccl UNKNOWN IMPORTED)
    set_target_properties(NCCL::nccl PROPERTIES
      IMPORTED_LOCATION "${NCCL_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}")
  endif()
endif()
if(TARGET NCCL::nccl)
  set(NCCL_FOUND TRUE)
endif()

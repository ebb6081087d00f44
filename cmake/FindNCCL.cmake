# Finds NCCL: target NCCL::nccl, the name that newer NCCL exports itself. Older ones ship no CMake
# package. Order: NCCL_ROOT or NCCL_HOME, NCCL's own package, the CUDA toolkit, the system, a pip
# wheel (which has libnccl.so.2 and no libnccl.so). NCCL_NOT_FOUND_MESSAGE says what is wrong.
include(FindPackageHandleStandardArgs)
unset(NCCL_NOT_FOUND_MESSAGE)
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

  set(NCCL_VERSION "")
  set(nccl_header "${NCCL_INCLUDE_DIR}/nccl.h")
  if(NCCL_INCLUDE_DIR AND EXISTS "${nccl_header}")
    file(STRINGS "${nccl_header}" nccl_lines REGEX "#define NCCL_(MAJOR|MINOR|PATCH) +[0-9]+")
    string(REGEX REPLACE "[^0-9]*([0-9]+);[^0-9]*([0-9]+);[^0-9]*([0-9]+).*" "\\1.\\2.\\3"
           NCCL_VERSION "${nccl_lines}")
  endif()
  # The library's own word; none where a program cannot be run now.
  set(nccl_library_version "")
  if(NCCL_VERSION AND NCCL_LIBRARY AND CMAKE_CXX_COMPILER_LOADED AND NOT CMAKE_CROSSCOMPILING)
    try_run(nccl_exit nccl_built
      SOURCE_FROM_CONTENT nccl_version.cpp "#include <cstdio>
        extern \"C\" int ncclGetVersion(int*);
        int main()
        {
          int v = 0;
          if (ncclGetVersion(&v) != 0) { return 1; }
          std::printf(\"%d.%d.%d\", v / 10000, v / 100 % 100, v % 100);
        }"
      NO_CACHE LINK_LIBRARIES "${NCCL_LIBRARY}" RUN_OUTPUT_VARIABLE nccl_printed)
    if(nccl_built AND nccl_exit STREQUAL "0")
      set(nccl_library_version "${nccl_printed}")
    endif()
  endif()

  set(nccl_pair_ok TRUE)
  if(NOT NCCL_INCLUDE_DIR AND NOT NCCL_LIBRARY)
    set(NCCL_NOT_FOUND_MESSAGE "no NCCL found, set NCCL_ROOT")
  elseif(NOT NCCL_INCLUDE_DIR)
    set(NCCL_NOT_FOUND_MESSAGE "${NCCL_LIBRARY} without a nccl.h, set NCCL_ROOT")
  elseif(NOT NCCL_LIBRARY)
    set(NCCL_NOT_FOUND_MESSAGE "${nccl_header} without a libnccl, set NCCL_ROOT")
  elseif(NOT NCCL_VERSION)
    set(NCCL_NOT_FOUND_MESSAGE "${nccl_header} does not say its version")
  elseif(nccl_library_version AND NOT nccl_library_version VERSION_EQUAL NCCL_VERSION)
    set(nccl_pair_ok FALSE)
    string(CONCAT NCCL_NOT_FOUND_MESSAGE "${nccl_header} is of NCCL ${NCCL_VERSION}, but "
           "${NCCL_LIBRARY} is ${nccl_library_version}: set NCCL_ROOT to one that has both")
  elseif(NCCL_FIND_VERSION AND NCCL_VERSION VERSION_LESS NCCL_FIND_VERSION)
    string(CONCAT NCCL_NOT_FOUND_MESSAGE "${NCCL_LIBRARY} is NCCL ${NCCL_VERSION}, "
           "${NCCL_FIND_VERSION} is the oldest that will do")
  endif()
  find_package_handle_standard_args(NCCL
    REQUIRED_VARS NCCL_LIBRARY NCCL_INCLUDE_DIR NCCL_VERSION nccl_pair_ok VERSION_VAR NCCL_VERSION
    REASON_FAILURE_MESSAGE "${NCCL_NOT_FOUND_MESSAGE}")
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

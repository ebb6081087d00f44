# cmake -DNVCC=... -DCXX=... -DSOURCE=... -DBINARY=... -P plain_nvcc.cmake
# Runs the README's nvcc line as it stands, where its include/ and examples/ are, and the program.
file(STRINGS "${SOURCE}/README.md" lines REGEX "^nvcc .*\\.cu")
list(LENGTH lines count)
if(NOT count EQUAL 1)
  message(FATAL_ERROR "README.md should have one line that begins with nvcc: ${lines}")
endif()
file(REMOVE_RECURSE "${BINARY}")
file(MAKE_DIRECTORY "${BINARY}")
foreach(folder IN ITEMS include examples)
  file(CREATE_LINK "${SOURCE}/${folder}" "${BINARY}/${folder}" SYMBOLIC)
endforeach()
cmake_path(GET NVCC PARENT_PATH nvcc_directory)
set(ENV{PATH} "${nvcc_directory}:$ENV{PATH}")
set(ENV{NVCC_CCBIN} "${CXX}")
execute_process(COMMAND sh -c "${lines}" WORKING_DIRECTORY "${BINARY}"
                RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT status EQUAL 0 OR NOT output STREQUAL "")  # no warning either
  message(FATAL_ERROR "${lines}\n${output}")
endif()
execute_process(COMMAND "${BINARY}/a.out" COMMAND_ERROR_IS_FATAL ANY)
